"""How a name becomes the record of a backbone; `zoo.toml` has those known by name."""

import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType
from typing import Any

from medtl_core.backbones.backbone import Backbone
from medtl_core.backbones.libraries.timm_table import timm_record
from medtl_core.backbones.manifest import BACKBONE_FILES, described
from medtl_core.errors import ConfigError, WeightsError, did_you_mean
from medtl_core.store import expanded, file_of, stem_of

_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_NAME = re.compile(r"[A-Za-z0-9][\w.-]*")


def find_backbone(name: str) -> Backbone:
    """Returns the record of a backbone.

    Args:
        name: a name of `BACKBONES`; "timm:ARCH" or "timm:hf-hub:OWNER/NAME" (see `libraries.timm_table`);
            "file:PATH" (a safetensors file whose manifest or metadata names its architecture) or
            "file:PATH#LIBRARY:ARCH"; "own:NAME" (such a file in the user's folder, see `own_folder`); "random:NAME"
            (the architecture of another backbone with seeded, untrained weights: for tests and as a control).

    Raises:
        ConfigError: the name or the architecture is unknown; the nearest name is suggested.
        WeightsError: a "file:" or "own:" backbone's file is missing, or does not say what it is.

    Example:
        >>> find_backbone("lite0").rich
        ('4', '7', '10')
        >>> find_backbone("random:resnet18").source
        'random'
    """
    if name in BACKBONES:
        return BACKBONES[name]
    kind, _, rest = name.partition(":")
    if kind in _KINDS and rest:
        return _KINDS[kind](rest)
    options = [*BACKBONES, "table", "timm:ARCH", "file:PATH", "own:NAME", "random:NAME", "signal:NAME", "text:NAME"]
    raise ConfigError(f"unknown backbone {name!r}; {did_you_mean(name, options)}")


def own_folder() -> Path:
    """Returns where `own:NAME` lies as NAME.safetensors: $MEDTL_HOME/backbones, or below the user's data folder."""
    data = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    return expanded(os.environ.get("MEDTL_HOME") or f"{data}/medtl") / "backbones"


def own_names() -> list[str]:
    """Returns what lies in `own_folder`, in alphabetical order."""
    return sorted(path.stem for path in own_folder().glob("*.safetensors") if _NAME.fullmatch(path.stem))


def check_name(name: str) -> str:
    """Returns a name that a file of `own_folder` may have.

    Raises:
        ConfigError: it may not.
    """
    if not _NAME.fullmatch(name):
        raise ConfigError(f"{name!r} cannot name a backbone: use letters, digits, dots, dashes and underscores")
    return name


def backbone_file(name: str, path: Path, arch: str = "") -> Backbone:
    """Returns the record of a safetensors file: as `arch`, its manifest NAME.json or its metadata say.

    Raises:
        ConfigError, WeightsError: see `find_backbone`.
    """
    stem = stem_of(path)
    if not arch and path.is_file() and file_of(stem, "json").is_file():
        manifest, where = BACKBONE_FILES.manifest(stem), str(file_of(stem, "json"))
        if not manifest["architecture"].startswith(("timm:", "torchvision:")):
            raise WeightsError(f"{where}: architecture must be timm:NAME or torchvision:NAME")
        base = described(find_backbone(manifest["architecture"]), manifest, where)
        return replace(base, name=name, source="file", file=str(path), sha=manifest["sha256"])
    base = find_backbone(arch or _architecture(path))
    return replace(base, name=name, source="file", file=str(path), sha="", licence="", trained_on=())


def _random(name: str) -> Backbone:
    base = find_backbone(f"torchvision:{name}" if f"torchvision:{name}" in BACKBONES else name)
    return replace(base, name=f"random:{name}", source="random", file="", licence="", trained_on=())


def _file(text: str) -> Backbone:
    path, _, arch = text.partition("#")
    return backbone_file(f"file:{text}", Path(path), arch)


def _own(name: str) -> Backbone:
    path, known = own_folder() / f"{check_name(name)}.safetensors", own_names()
    if name not in known:
        raise WeightsError(
            f"own:{name} needs the file {path}, which `medtl backbones fetch` or `unpack` writes; "
            + (did_you_mean(name, known) if known else "none is here")
        )
    return backbone_file(f"own:{name}", path)


def _timm(text: str) -> Backbone:
    if text == BACKBONES["lite0"].arch:
        return replace(BACKBONES["lite0"], name=f"timm:{text}")
    return timm_record(text)


_KINDS = {"random": _random, "file": _file, "own": _own, "timm": _timm}


def _architecture(path: Path) -> str:
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise WeightsError(f"the backbone file {path} does not exist")
    try:
        with safe_open(path, "np") as content:
            text = (content.metadata() or {}).get("arch", "")
    except SafetensorError as error:
        raise WeightsError(f"{path} is not a safetensors file: {error}") from error
    match = re.match(r"(timm|torchvision)[ :]([\w.]+)", text)
    if match is None:
        raise WeightsError(f"{path} does not name its architecture; add it to the setting: file:{path}#timm:ARCH")
    return f"{match[1]}:{match[2]}"


def _row(name: str, facts: Mapping[str, Any]) -> Backbone:
    stated, modules = {key: value for key, value in facts.items() if key != "modules"}, facts["modules"]
    library, _, arch = facts.get("architecture", name).partition(":")
    source, file = facts.get("source", "hub"), facts["file"]
    base = Backbone(name, library, arch, source, file, {}, {}, 224, *_IMAGENET, (), ())
    return replace(described(base, stated, name, modules), sha=facts.get("sha256", ""))


_TABLE = tomllib.loads((files("medtl_core.backbones") / "zoo.toml").read_text(encoding="utf-8"))
#: Every backbone known by name. A new one is a new table of `zoo.toml`.
BACKBONES: Mapping[str, Backbone] = MappingProxyType({name: _row(name, facts) for name, facts in _TABLE.items()})
