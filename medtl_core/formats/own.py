"""The record of own data: what they show, and which views keep a label of it true."""

import tomllib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path

from medtl_core.config import Settings
from medtl_core.data.catalog import Entry, Layout
from medtl_core.data.task import Statement
from medtl_core.errors import DataError
from medtl_core.values import Examples


@cache
def modalities() -> Mapping[str, tuple[str, ...]]:
    """Returns what own data may state as their modality, with the views that keep a label of it."""
    facts = tomllib.loads((files("medtl_core.data") / "catalog.toml").read_text(encoding="utf-8"))
    return {name: tuple(views) for name, views in facts["modality"].items()}


def find_modality(word: str) -> str:
    """Returns a modality as the catalog spells it, whatever the case, dashes and spaces of the word.

    Raises:
        DataError: it is none of them; the word is not quoted, for it may be a patient's cell.
    """
    for name in modalities():
        if _letters(name) == _letters(word):
            return name
    raise DataError(f"modality must be one of {', '.join(modalities())}")


def own_entry(path: Path, examples: Examples, stated: Statement | None, settings: Settings) -> Entry:
    """Returns the record of own data; what keeps the label follows from a setting, `task.json` or a manifest's column.

    Guarantee:
        Unit: patient. Under privacy no column says it, for that would be every patient's word about all others.

    Raises:
        DataError: the modality is unknown, or stated two ways.
    """
    cells = examples.columns.get("modality", ()) if settings.privacy == "none" else ()
    words = (settings.modality, stated.modality if stated else "", *{*map(str, cells)})
    names = {find_modality(word) for word in words if word}
    if len(names) > 1:
        raise DataError(f"{path}: modality is stated as {' and as '.join(sorted(names))}; keep one")
    modality = next(iter(names), "not stated")
    views = (stated.views if stated else ()) or modalities().get(modality, ("identity",))
    title, unknown, layout = f"own data: {path.stem}", "not stated", Layout("own")
    return Entry("own", title, modality, examples.task, (), layout, "natural", views, unknown, "", "")


def _letters(word: str) -> str:
    return "".join(filter(str.isalnum, word.casefold()))
