"""Where the Flower app lies: the checkout with `server`, `client` and `simulations`.

Those three names are too common to be installed, so they are found as `flwr run [APP]` finds an app: by folder.
"""

import hashlib
import importlib
import sys
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from medtl_core.errors import ConfigError, RunError
from medtl_core.runs import Plan

Progress = Callable[[Mapping[str, Any]], None]
Simulate = Callable[[Plan, Progress], Mapping[str, Any] | Path]

#: The package this process runs.
_PACKAGE = Path(__file__).resolve().parents[1]


def find_app(given: Path | None = None) -> Path:
    """Returns the checkout to run: the folder given, else the current one, else the one this package lies in.

    Raises:
        ConfigError: none of them is a medtl checkout, or the one found holds another state of medtl_core.
    """
    if given is not None:
        if not is_app(given):
            raise ConfigError(f"{given} is not a medtl checkout: its pyproject.toml lacks [tool.flwr.app] of medtl")
        found = given
    else:
        places = (Path.cwd(), _PACKAGE.parent)
        here = next((place for place in places if is_app(place)), None)
        if here is None:
            raise ConfigError(
                "no medtl checkout here; go to one, give it with --app, or install it with pip install -e"
            )
        found = here
    _check_same_core(found.resolve())
    return found.resolve()


def is_app(folder: Path) -> bool:
    """Returns whether a folder's pyproject.toml declares the Flower app named medtl."""
    try:
        declared = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return declared.get("project", {}).get("name") == "medtl" and "app" in declared.get("tool", {}).get("flwr", {})


def load_experiment(app: Path) -> Simulate:
    """Returns `simulate` of the checkout's `simulations/experiment.py`; the checkout comes first on `sys.path`.

    Raises:
        RunError: the checkout has no such module, or another package of that name was loaded before.
    """
    if not (app / "simulations" / "experiment.py").is_file():
        raise RunError(f"{app} has no simulations/experiment.py; is the checkout complete?")
    sys.path[:] = [str(app), *(place for place in sys.path if place != str(app))]
    module = importlib.import_module("simulations.experiment")
    origin = Path(str(module.__file__)).resolve()
    if not origin.is_relative_to(app):
        raise RunError(f"another package named 'simulations' was loaded from {origin.parent}; start in {app}")
    simulate: Simulate = module.simulate
    return simulate


def _check_same_core(app: Path) -> None:
    """Refuses to mix a checkout's apps with another state of the library: they are one program."""
    core = app / "medtl_core"
    if core == _PACKAGE or not core.is_dir():
        return
    if _fingerprint(core) != _fingerprint(_PACKAGE):
        raise ConfigError(f"{app} holds another medtl_core than the one installed; run: pip install -e {app}")


def _fingerprint(package: Path) -> str:
    total = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        total.update(path.relative_to(package).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return total.hexdigest()
