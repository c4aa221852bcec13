"""Where the Flower app lies that a command runs, and `medtl app`, which writes it out.

The names `server` and `client` are too common to be installed, so the two packages are found as `flwr run [APP]` finds
an app: by folder. In a checkout that is the checkout; an installed medtl carries the folder inside its package.
"""

import hashlib
import re
import shutil
import tomllib
from pathlib import Path
from typing import Annotated

import typer

from medtl_core.cli import console
from medtl_core.errors import ConfigError, RunError

#: The package this process runs.
_PACKAGE = Path(__file__).resolve().parents[1]
#: Where an installed medtl carries the app.
_CARRIED = _PACKAGE / "app"
#: What belongs to the app beside `medtl_core`; as in hatch_build.py.
_PARTS = ("pyproject.toml", "LICENSE", "server", "client", "simulations/scenarios")
#: What Flower takes as the name of an app's folder.
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,31}")


def find_app(given: Path | None = None) -> Path:
    """Returns the app to run: the folder given, else the current one, else the one that belongs to this package.

    Raises:
        ConfigError: none of them is medtl's app, or the one found holds another state of medtl_core.
    """
    if given is not None:
        if not is_app(given):
            raise ConfigError(f"{given} is not an app of medtl: its pyproject.toml lacks [tool.flwr.app] of medtl")
        return _with_this_core(given.resolve())
    return _with_this_core(Path.cwd().resolve()) if is_app(Path.cwd()) else installed_app()


def installed_app() -> Path:
    """Returns the app that belongs to this package, wherever the process was started.

    Raises:
        ConfigError: it is gone.
    """
    for place in (_PACKAGE.parent, _CARRIED):
        if is_app(place):
            return _with_this_core(place.resolve())
    raise ConfigError(f"this medtl has lost its app, {_CARRIED}; install it again, or name a checkout with --app")


def is_app(folder: Path) -> bool:
    """Returns whether a folder's pyproject.toml declares the Flower app named medtl."""
    try:
        declared = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return declared.get("project", {}).get("name") == "medtl" and "app" in declared.get("tool", {}).get("flwr", {})


def write_app(app: Path, folder: Path) -> None:
    """Writes a whole Flower app, from which `flwr run` makes the bundle that goes to every hospital.

    It holds `medtl_core` too, so that all hospitals of a run work with one state of it, whatever they have installed.

    Args:
        app: from `find_app`.
        folder: new or empty.

    Raises:
        ConfigError: Flower does not take the folder's name.
        RunError: the folder holds something, or cannot be written.
    """
    if not _NAME.fullmatch(folder.absolute().name):
        raise ConfigError(
            f"Flower takes no app from a folder called {folder.absolute().name!r}; choose a name of at most 32 "
            "letters, digits and hyphens that starts with a letter"
        )
    core = app / "medtl_core"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise RunError(f"{folder} holds something already; name a new or an empty folder")
        for name in _PARTS:
            _copy(app / name, folder / name)
        _copy(core if core.is_dir() else _PACKAGE, folder / "medtl_core")
    except OSError as error:
        raise RunError(f"the app cannot be written to {folder}: {error.strerror or error}") from error


def _copy(source: Path, target: Path) -> None:
    if source.is_file():
        shutil.copyfile(source, target)
    else:
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", _CARRIED.name))


def _with_this_core(app: Path) -> Path:
    """Refuses to mix an app with another state of the library: they are one program."""
    core = app / "medtl_core"
    if core != _PACKAGE and core.is_dir() and _fingerprint(core) != _fingerprint(_PACKAGE):
        raise ConfigError(f"{app} holds another medtl_core than the one installed; run: pip install -e {app}")
    return app


def _fingerprint(package: Path) -> str:
    total = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        if not path.is_relative_to(_CARRIED):
            total.update(path.relative_to(package).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return total.hexdigest()


def code_fingerprint() -> str:
    """Returns the SHA-256 of this package's code and of the two apps that belong to it."""
    folder, total = installed_app(), hashlib.sha256(_fingerprint(_PACKAGE).encode())
    for name in ("client", "server"):
        total.update(_fingerprint(folder / name).encode())
    return total.hexdigest()


def app(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="New or empty folder; Flower limits its name.")],
    source: Annotated[Path | None, typer.Option("--app", metavar="DIR", help="The Flower app to copy.")] = None,
) -> None:
    """Write the Flower app out, for `flwr run` and a deployment.

    Hospitals need `pip install medtl` for what the app depends on; the app itself reaches them through Flower.
    """
    write_app(find_app(source), folder)
    console.say(console.console_of(), f"app  {folder.absolute()}; start it with: flwr run {folder}")


COMMANDS = {"app": console.command(app)}
