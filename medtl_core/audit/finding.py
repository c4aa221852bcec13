"""What one attack of an audit found, in words and numbers."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

#: The verdict that must never be read, and that of a claim that no attack contradicted.
FALSE, STANDS = "THE CLAIM IS FALSE", "consistent with the claim"


@dataclass(frozen=True)
class Finding:
    """One attack.

    Attributes:
        claim: what must not be exceeded; "" = nothing is claimed.
        held: whether the claim stands; None = there is none.
        planted: bug -> what the same attack finds when it is planted.
        numbers: behind the words.
    """

    test: str
    tried: str
    claim: str
    found: str
    verdict: str
    held: bool | None = None
    planted: Mapping[str, str] = field(default_factory=dict)
    numbers: Mapping[str, Any] = field(default_factory=dict)


def caught(found: bool) -> str:
    """Returns the word for whether an attack saw a bug planted on purpose."""
    return "found" if found else "NOT found"
