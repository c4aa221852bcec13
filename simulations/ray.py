"""The same apps on Flower's own Ray simulation: slower to start than `LocalGrid`, but with a process per hospital."""

import logging
import os
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from flwr.app import UserConfigValue

from medtl_core.errors import MedtlError, RunError
from medtl_core.flower import compat
from medtl_core.runtime import quiet


def run_ray(app: Path, hospitals: int, run_config: Mapping[str, UserConfigValue]) -> None:
    """Runs an app folder's `server.app:app` and `client.app:app` on Ray, driven from this process.

    One CPU per hospital at work. What the run found lies in the folder `run_config["out"]`, as on every other road.

    Args:
        app: the folder with the app's `pyproject.toml`.
        hospitals: number of virtual SuperNodes.
        run_config: values for both apps; keys must stand in the pyproject's `[tool.flwr.app.config]`.

    Raises:
        RunError: Ray is not installed, or the ServerApp or the simulation itself raised.
    """
    if find_spec("ray") is None:
        raise RunError("Ray is not installed: pip install 'medtl[ray]', or run without it on the in-process grid")
    # Ray reports usage over the network unless told not to; its workers inherit the environment
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        with quiet("flwr", logging.WARNING):
            compat.run_ray(app, "server.app:app", "client.app:app", hospitals=hospitals, run_config=dict(run_config))
    except Exception as error:
        text = str(error) if isinstance(error, MedtlError) else f"{type(error).__name__}: {error}"
        raise RunError(f"the run on Ray failed: {text}") from error
