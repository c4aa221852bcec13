"""Commands that only list: `medtl methods`, `medtl settings`, `medtl scenarios`."""

import inspect
import re

from medtl_core.cli import console

#: Signs of a usual value that are shown.
_LONGEST = 30


def methods() -> None:
    """List the methods that `methods=...` can name.

    One name of every family; a number in it is its rounds or size. "judged" says whose labelled cases a method needs
    (the setting `test`).
    """
    from medtl_core.federation.registry import all_methods, label_methods

    shown = console.table_of("name", "judged", "what it is")
    for kind in sorted(all_methods(), key=lambda kind: (kind.__module__, kind.example)):
        shown.add_row("\n".join(kind.names()), kind.test, kind.summary)
    several = ", ".join(sorted(kind.example for kind in label_methods()))
    console.show(shown, f"Of several findings a case (multi-label tasks): {several}")


def settings() -> None:
    """List the settings, each with its usual value and what it means.

    Any of them may follow `--set`, stand in a scenario file, or in `flwr run --run-config`.
    """
    from medtl_core.config import Settings

    shown = console.table_of("setting", "usual", "meaning")
    usual, meanings = Settings().public(), _meanings(inspect.getdoc(Settings) or "")
    for name, value in usual.items():
        text = str(value).lower() if isinstance(value, bool) else str(value)
        shown.add_row(name, text if len(text) <= _LONGEST else f"{text[:_LONGEST]}...", meanings[name])
    console.show(shown, markup=False)


def _meanings(text: str) -> dict[str, str]:
    """Setting -> what a docstring's attributes say of it, one line."""
    lines = text.partition("Attributes:\n")[2].replace("\n        ", " ").splitlines()
    found = (re.fullmatch(r" {4}([a-z_, ]+): (.+)", line) for line in lines)
    words = {name: match[2] for match in found if match for name in match[1].split(", ")}
    return {name.replace("_", "-"): text for name, text in words.items()}


def scenarios(app: console.App = None) -> None:
    """List the scenarios that `medtl simulate NAME` runs, each with what it is and sets."""
    from medtl_core.cli.app_folder import find_app
    from medtl_core.config import read_scenario

    shown = console.table_of("scenario", "what it is", "settings")
    for path in sorted((find_app(app) / "simulations" / "scenarios").glob("*.toml")):
        first = path.read_text(encoding="utf-8-sig").partition("\n")[0]
        pairs = " ".join(f"{key}={value}" for key, value in read_scenario(path).items())
        shown.add_row(path.stem, first.removeprefix("#").strip() if first.startswith("#") else "", pairs)
    console.show(shown, markup=False)


COMMANDS = {
    "methods": console.command(methods),
    "settings": console.command(settings),
    "scenarios": console.command(scenarios),
}
