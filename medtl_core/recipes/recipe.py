"""Recipes: where the weights of a backbone are, what their bytes are, and under which licence they come.

`recipe.toml` holds those whose SHA-256 is public knowledge; a person adds others in a TOML file of the same form.
"""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from medtl_core.backbones.manifest import BACKBONE_FILES
from medtl_core.backbones.zoo import check_name
from medtl_core.errors import ConfigError, did_you_mean
from medtl_core.store import expanded

#: A file of unknown size may have so many bytes.
MOST_BYTES = 16_000_000_000
#: What a recipe must say, and what it may; what describes the network besides is read by `backbones.manifest`.
_NEEDED: Mapping[str, type] = {"url": str, "sha256": str, "licence": str, "architecture": str}
_OPTIONS: Mapping[str, type] = {
    "bytes": int, "licence_url": str, "licence_text": str, "gate": str, "gate_url": str, "inside": str,
}  # fmt: skip


@dataclass(frozen=True)
class Recipe:
    """How the weights of one backbone are fetched.

    Attributes:
        name: of the backbone, which becomes own:NAME.
        url: of the file, HTTPS; one that ends in .safetensors is kept as it is, any other is converted.
        sha256: of the file.
        licence: its short name, which a person accepts.
        facts: what the manifest beside the weights will say.
        bytes: size of the file, or the most it may have.
        licence_text, licence_url: the licence's words, and where they stand; one of them may be empty.
        gate: environment variable with the token that the file needs; "" = none.
        gate_url: where a person asks for access.
        inside: key of the table of tensors in a `.pth`; "" = it is the file itself.
    """

    name: str
    url: str
    sha256: str
    licence: str
    facts: Mapping[str, Any]
    bytes: int = MOST_BYTES
    licence_url: str = ""
    licence_text: str = ""
    gate: str = ""
    gate_url: str = ""
    inside: str = ""


def recipes(file: Path | None = None) -> Mapping[str, Recipe]:
    """Returns the recipes that come with medtl, and those of a person's file behind, by name.

    Raises:
        ConfigError: the file is not one of recipes; names the first that is faulty.
    """
    known = _read((files("medtl_core.recipes") / "recipe.toml").read_text(encoding="utf-8"), "recipe.toml")
    if file is None:
        return known
    try:
        return {**known, **_read(expanded(file).read_text(encoding="utf-8"), str(file))}
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the recipes {file} cannot be read: {error}") from error


def find_recipe(name: str, file: Path | None = None) -> Recipe:
    """Returns a recipe by its name.

    Raises:
        ConfigError: there is none; the nearest name is suggested.
    """
    known = recipes(file)
    if name not in known:
        raise ConfigError(f"no recipe for {name!r}; {did_you_mean(name, known)}, or bring your own with --recipe FILE")
    return known[name]


def _read(text: str, where: str) -> dict[str, Recipe]:
    """The recipes of a TOML text, in which a table `licence.NAME` may hold a licence's words for several."""
    try:
        tables = tomllib.loads(text)
        licences = {name: str(row["text"]) for name, row in tables.pop("licence", {}).items()}
    except (tomllib.TOMLDecodeError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"{where} is not a file of recipes: {error}") from error
    return {name: _recipe(name, row, f"{where}: {name}", licences) for name, row in tables.items()}


def _recipe(name: str, row: Any, where: str, licences: Mapping[str, str]) -> Recipe:
    check_name(name)
    row = row if isinstance(row, dict) else {}
    for key, kind in {**_NEEDED, **_OPTIONS}.items():
        if (key in row or key in _NEEDED) and type(row.get(key)) is not kind:
            raise ConfigError(f"{where} must say {key!r}, of type {kind.__name__}")
    for wrong, words in (
        (not row["url"].startswith("https://"), "url must begin with https://; nothing is fetched in the open"),
        (not re.fullmatch(r"[0-9a-f]{64}", row["sha256"]), "sha256 must be 64 small hexadecimal digits"),
        (not row["licence"].strip(), "licence must name a licence"),
        (not re.match("timm:|torchvision:", row["architecture"]), "architecture is not timm:NAME or torchvision:NAME"),
    ):
        if wrong:
            raise ConfigError(f"{where}: {words}")
    words = row.get("licence_text") or licences.get(row["licence"], "")
    facts = {key: value for key, value in row.items() if key not in _OPTIONS}
    facts |= {"schema": BACKBONE_FILES.schema, "licence_text": words, "source_sha256": row["sha256"]}
    options = {key: row[key] for key in _OPTIONS if key in row}
    return Recipe(name, row["url"], row["sha256"], row["licence"], facts, **{**options, "licence_text": words})
