"""The table of backbones, and how a name becomes a record."""

import os
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from medtl_core.backbones import weights
from medtl_core.backbones.backbone import Backbone
from medtl_core.errors import ConfigError, WeightsError, did_you_mean
from medtl_core.store import expanded

_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
_NAME = re.compile(r"[A-Za-z0-9][\w.-]*")
#: Blocks and channels of EfficientNet-Lite0's stages.
_LITE0 = ((1, 16), (2, 24), (2, 40), (3, 80), (3, 112), (4, 192), (1, 320))


def find_backbone(name: str) -> Backbone:
    """Returns the record of a backbone.

    Args:
        name: a name of `BACKBONES`; "timm:ARCH" (any of timm's, read from its own tables); "file:PATH" (a safetensors
            file whose metadata names its architecture) or "file:PATH#LIBRARY:ARCH"; "own:NAME" (such a file in the
            user's folder, see `own_folder`); "random:NAME" (the architecture of another backbone with seeded,
            untrained weights: for tests and as a control).

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
    options = [*BACKBONES, "table", "timm:ARCH", "file:PATH", "own:NAME", "random:NAME"]
    raise ConfigError(f"unknown backbone {name!r}; {did_you_mean(name, options)}")


def table() -> list[dict[str, Any]]:
    """Returns one row a backbone, the user's own last: its record, and as "available" if its weights are here.

    Raises:
        WeightsError: a file in the user's folder is no backbone.
    """
    known = [*BACKBONES.values(), *(find_backbone(f"own:{name}") for name in _own_names())]
    return [{**vars(backbone), "available": _is_here(backbone)} for backbone in known]


def _is_here(backbone: Backbone) -> bool:
    try:
        weights.locate(backbone)
    except WeightsError:
        return False
    return True


def _random(name: str) -> Backbone:
    base = find_backbone(f"torchvision:{name}" if f"torchvision:{name}" in BACKBONES else name)
    return replace(base, name=f"random:{name}", source="random", file="")


def _file(text: str) -> Backbone:
    path, _, arch = text.partition("#")
    return _of_file(f"file:{text}", Path(path), arch)


def own_folder() -> Path:
    """Returns where `own:NAME` lies as NAME.safetensors: $MEDTL_HOME/backbones, or below the user's data folder."""
    data = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    return expanded(os.environ.get("MEDTL_HOME") or f"{data}/medtl") / "backbones"


def _own_names() -> list[str]:
    return sorted(path.stem for path in own_folder().glob("*.safetensors") if _NAME.fullmatch(path.stem))


def _own(name: str) -> Backbone:
    if not _NAME.fullmatch(name):
        raise ConfigError(f"{name!r} cannot name a backbone: use letters, digits, dots, dashes and underscores")
    path, known = own_folder() / f"{name}.safetensors", _own_names()
    if name not in known:
        raise WeightsError(
            f"own:{name} needs the file {path}; {did_you_mean(name, known) if known else 'none is here'}"
        )
    return _of_file(f"own:{name}", path, "")


def _of_file(name: str, path: Path, arch: str) -> Backbone:
    base = find_backbone(arch or _architecture(path))
    return replace(base, name=name, source="file", file=str(path))


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


def _timm(arch: str) -> Backbone:
    """A record from timm's own tables: the maps of stride 8 and 16, or three blocks of a network of one stride."""
    if arch == BACKBONES["lite0"].arch:
        return replace(BACKBONES["lite0"], name=f"timm:{arch}")
    import timm
    import torch
    from timm.models import get_pretrained_cfg, is_model, list_models

    if not is_model(arch):
        raise ConfigError(f"timm has no architecture {arch!r}; {_nearest(arch, list_models())}")
    with torch.device("meta"):
        info = getattr(timm.create_model(arch, pretrained=False), "feature_info", None)
    rows = list(getattr(info, "info", info) or ())
    if not rows:
        raise ConfigError(f"timm's {arch!r} does not say where its features are; choose another backbone")
    facts: Any = get_pretrained_cfg(arch)
    taps = [row["module"] for row in rows]
    middle = [row["module"] for row in rows if row["reduction"] in (8, 16)] or taps[-1:]
    if len(middle) > 3:
        middle = [taps[len(taps) // 2 - 1], taps[3 * len(taps) // 4 - 1], taps[-1]]
    return Backbone(
        name=f"timm:{arch}",
        library="timm",
        arch=arch,
        source="hub",
        file=str(facts.hf_hub_id or ""),
        taps=MappingProxyType({tap: tap for tap in taps}),
        channels=MappingProxyType({row["module"]: row["num_chs"] for row in rows}),
        size=facts.input_size[-1],
        mean=facts.mean,
        std=facts.std,
        rich=tuple(middle),
        plain=(middle[-1],),
    )


def _nearest(word: str, options: list[str]) -> str:
    hint = did_you_mean(word, options)
    return hint if hint.startswith("did") else "`timm.list_models()` lists them"


_KINDS = {"random": _random, "file": _file, "own": _own, "timm": _timm}


def _lite0() -> Backbone:
    places = [(f"blocks.{stage}.{block}", width) for stage, (n, width) in enumerate(_LITE0) for block in range(n)]
    names = [*map(str, range(len(places))), "final"]
    places.append(("bn2", 1280))
    taps = dict(zip(names, (path for path, _ in places), strict=True))
    channels = dict(zip(names, (width for _, width in places), strict=True))
    return Backbone(
        name="lite0",
        library="timm",
        arch="tf_efficientnet_lite0",
        source="package",
        file="efficientnet-lite0-57934424.pth",
        taps=MappingProxyType(taps),
        channels=MappingProxyType(channels),
        size=128,  # its middle taps tell as much as at 224, in a third of the time (docs/methods.md)
        mean=_HALF[0],
        std=_HALF[1],
        rich=("4", "7", "10"),
        plain=("10",),
    )


def _torchvision(arch: str, file: str, channels: Mapping[str, int], rich: tuple[str, ...]) -> Backbone:
    """A record of torchvision's: a tap is a number below `features`, or the name of a module."""
    inside = "" if "resnet" in arch else "features."
    taps = {tap: f"{inside}{tap}" for tap in channels}
    return Backbone(
        name=f"torchvision:{arch}",
        library="torchvision",
        arch=arch,
        source="hub",
        file=f"{file}.pth",
        taps=MappingProxyType(taps),
        channels=MappingProxyType(dict(channels)),
        size=224,
        mean=_IMAGENET[0],
        std=_IMAGENET[1],
        rich=rich,
        plain=rich[-1:],
    )


def _numbered(*widths: int) -> dict[str, int]:
    return {str(number): width for number, width in enumerate(widths)}


_V2 = _numbered(32, 16, 24, 24, 32, 32, 32, 64, 64, 64, 64, 96, 96, 96, 160, 160, 160, 320, 1280)
_V3_SMALL = _numbered(16, 16, 24, 24, 40, 40, 40, 48, 48, 96, 96, 96, 576)
_V3_LARGE = _numbered(16, 16, 24, 24, 40, 40, 40, 80, 80, 80, 80, 112, 112, 160, 160, 160, 960)
_B0 = _numbered(32, 16, 24, 40, 80, 112, 192, 320, 1280)
_SQUEEZE = {"3": 128, "4": 128, "6": 256, "7": 256, "9": 384, "10": 384, "11": 512, "12": 512}
_SMALL_RESNET = {"layer1": 64, "layer2": 128, "layer3": 256, "layer4": 512}
_LARGE_RESNET = {"layer1": 256, "layer2": 512, "layer3": 1024, "layer4": 2048}
_DENSE = {"transition1": 128, "transition2": 256, "transition3": 512, "norm5": 1024}
_NEXT = {"1": 96, "3": 192, "5": 384, "7": 768}
_RECORDS = (
    _lite0(),
    _torchvision("squeezenet1_1", "squeezenet1_1-b8a52dc0", _SQUEEZE, ("7", "10", "12")),
    _torchvision("mobilenet_v2", "mobilenet_v2-7ebf99e0", _V2, ("6", "10", "13")),
    _torchvision("mobilenet_v3_small", "mobilenet_v3_small-047dcff4", _V3_SMALL, ("3", "6", "8")),
    _torchvision("mobilenet_v3_large", "mobilenet_v3_large-5c1a4163", _V3_LARGE, ("6", "10", "12")),
    _torchvision("efficientnet_b0", "efficientnet_b0_rwightman-7f5810bc", _B0, ("3", "4", "5")),
    _torchvision("resnet18", "resnet18-f37072fd", _SMALL_RESNET, ("layer2", "layer3")),
    _torchvision("resnet34", "resnet34-b627a593", _SMALL_RESNET, ("layer2", "layer3")),
    _torchvision("resnet50", "resnet50-11ad3fa6", _LARGE_RESNET, ("layer2", "layer3")),
    _torchvision("densenet121", "densenet121-a639ec97", _DENSE, ("transition1", "transition2", "transition3")),
    _torchvision("convnext_tiny", "convnext_tiny-983f1562", _NEXT, ("3", "5")),
)

#: Every backbone known by name. A new one is a new row.
BACKBONES: Mapping[str, Backbone] = MappingProxyType({record.name: record for record in _RECORDS})
