"""What a manifest says of a backbone: a row of `zoo.toml`, or NAME.json beside one's own NAME.safetensors."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import isfinite
from types import MappingProxyType
from typing import Any

from medtl_core.backbones.backbone import Backbone
from medtl_core.errors import WeightsError, did_you_mean
from medtl_core.store import ArrayStore

#: A backbone of one's own on disk.
BACKBONE_FILES = ArrayStore("backbone", {"architecture": str})
#: Facts that describe a network, and those of where a file comes from and what one may do with it.
FACTS = ("size", "mean", "std", "channels", "taps", "pooling", "licence", "trained_on")
ORIGIN = (
    "schema", "architecture", "source", "file", "sha256", "source_sha256", "url", "revision", "licence_text",
    "redistribution",
)  # fmt: skip
Modules = Mapping[str, Sequence[Any]]
_POOLINGS = ("", "mean", "mean+std", "mean+std+centre", "grid")


def described(
    base: Backbone, facts: Mapping[str, Any], where: str, modules: Modules = MappingProxyType({})
) -> Backbone:
    """Returns a record as facts describe it; what they leave out stays, but for the licence and the sets learnt from.

    Args:
        base: the architecture.
        facts: "size" in pixels; "mean" and "std", a list of one number a channel or one for all; "channels" of the
            image, 1 or 3; "taps", what "rich" reads, the last of them "plain"; "pooling"; "licence"; "trained_on", a
            list of public sets; and those of `ORIGIN`.
        where: they stand, for messages.
        modules: tap -> (path of a module, channels of its output), behind the taps that the architecture has.

    Raises:
        WeightsError: a fact is unknown or has no such value.
    """
    try:
        rich = tuple(_listed(facts["taps"])) if "taps" in facts else base.rich
        record = replace(
            base,
            taps=MappingProxyType({**base.taps, **{tap: path for tap, (path, _) in modules.items()}}),
            channels=MappingProxyType({**base.channels, **{tap: width for tap, (_, width) in modules.items()}}),
            size=int(facts.get("size", base.size)),
            mean=_per_channel(facts.get("mean", [*base.mean])),
            std=_per_channel(facts.get("std", [*base.std])),
            rich=rich,
            plain=rich[-1:] if "taps" in facts else base.plain,
            inputs=int(facts.get("channels", base.inputs)),
            pooling=str(facts.get("pooling", base.pooling)),
            licence=str(facts.get("licence", "")),
            trained_on=tuple(map(str, _listed(facts.get("trained_on", [])))),
        )
    except (TypeError, ValueError, AttributeError) as error:
        raise WeightsError(f"{where}: a fact has another form than it must have ({error})") from error
    _check(record, next((name for name in facts if name not in (*FACTS, *ORIGIN)), ""), where)
    return record


def _check(record: Backbone, unknown: str, where: str) -> None:
    for wrong, words in (
        (unknown, f"unknown fact {unknown!r}; {did_you_mean(unknown, [*FACTS, *ORIGIN])}"),
        (min(record.std) <= 0, "std must be above 0"),
        (record.inputs not in (1, 3), "channels must be 3, or 1 for a network that reads grey"),
        (record.pooling not in _POOLINGS, f"pooling must be one of {', '.join(_POOLINGS[1:])}"),
    ):
        if wrong:
            raise WeightsError(f"{where}: {words}")


def _listed(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError(f"{value!r} is no list")
    return value


def _per_channel(value: Any) -> tuple[float, ...]:
    numbers = tuple(map(float, _listed(value)))
    if len(numbers) not in (1, 3) or not all(map(isfinite, numbers)):
        raise ValueError(f"{value!r} is not one number a channel, or one for all")
    return numbers * (3 // len(numbers))
