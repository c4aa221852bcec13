"""Puts the Flower app into the wheel: the folder `medtl_core/app`, which the command line runs without a checkout.

Not in an editable install: there the checkout itself is the app, and a second `medtl_core` folder would hide it.
"""

from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

#: What the command line and `flwr run` need beside `medtl_core`.
APP = ("pyproject.toml", "LICENSE", "server", "client", "simulations/scenarios")


class AppFolder(BuildHookInterface):
    """The build hook; see the module."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Adds the app's files to a wheel that is to be installed for good."""
        if version == "standard":
            build_data["force_include"].update({name: f"medtl_core/app/{name}" for name in APP})
