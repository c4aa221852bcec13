"""Versions that must fit: of what is installed here to what medtl asks for, and of both sides to each other."""

import platform
import re
from collections.abc import Iterator, Mapping
from importlib import metadata
from typing import Any

from medtl_core import __version__
from medtl_core.fingerprint import PROTOCOL_MARK

_REQUIREMENT = re.compile(r"([A-Za-z0-9._-]+)(?:\[[^]]*\])?\s*([^;]*)")
_BOUND = re.compile(r"(>=|<=|==|<|>)\s*([0-9][0-9.]*)")


def spoken() -> dict[str, str]:
    """Returns what one side tells the other of itself, by name; nothing in it names a machine."""
    return {
        "medtl": __version__,
        "flwr": _installed("flwr"),
        "python": platform.python_version(),
        "protocol": PROTOCOL_MARK,
    }


def differing(said: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Yields the name, the version there and the version here of what does not fit between two sides.

    Python may differ in its last number, and Flower too.
    """
    for name, here in spoken().items():
        there = said.get(name)
        if isinstance(there, str) and _counts(name, there) != _counts(name, here):
            yield name, there[:40], here


def _counts(name: str, version: str) -> tuple[int, ...] | str:
    return _numbers(version)[:2] if name in ("python", "flwr") else version


def unfit(distribution: str = "medtl") -> Iterator[tuple[str, str, str]]:
    """Yields the name, the version installed ("" = none) and what a distribution asks for, where these do not fit."""
    for line in metadata.requires(distribution) or ():
        match = _REQUIREMENT.match(line)
        if match is None or "extra ==" in line:
            continue
        here = _installed(match[1])
        if not here or not fits(here, match[2]):
            yield match[1], here, match[2].strip()


def fits(version: str, asked: str) -> bool:
    """Returns whether a version lies within bounds such as ">=1.41,<1.42"; they are compared by their numbers."""
    return all(_holds(version, *bound) for bound in _BOUND.findall(asked))


def _installed(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def _holds(version: str, relation: str, bound: str) -> bool:
    a, b = _numbers(version), _numbers(bound)
    wide = max(len(a), len(b))
    a, b = a + (0,) * (wide - len(a)), b + (0,) * (wide - len(b))
    return {">=": a >= b, "<=": a <= b, "==": a == b, "<": a < b, ">": a > b}[relation]


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version.partition("+")[0])[:4])
