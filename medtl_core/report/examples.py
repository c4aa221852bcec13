"""Test cases in pictures, for a report of which a person has asked for them: nothing else puts a picture on a page."""

from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from medtl_core.report.numerals import figure

#: How a picture on a page begins; a page without it shows no case.
EMBEDDED = "data:image/png;base64,"


@dataclass(frozen=True)
class Example:
    """A test case.

    Attributes:
        png: a PNG file, of the picture and beside it of where its answer comes from.
        truth: its class.
        probabilities: of every class.
        site: its hospital.
    """

    png: bytes
    truth: str
    probabilities: Mapping[str, float]
    site: str

    @property
    def answer(self) -> str:
        """The likeliest class."""
        return max(self.probabilities, key=lambda name: self.probabilities[name])

    @property
    def shares(self) -> str:
        """The probabilities in words, the largest first."""
        ranked = sorted(self.probabilities.items(), key=lambda item: -item[1])
        return ", ".join(f"{name}\N{NO-BREAK SPACE}{figure(share)}" for name, share in ranked)

    @property
    def address(self) -> str:
        """What a page shows the picture by."""
        return EMBEDDED + b64encode(self.png).decode("ascii")


@dataclass(frozen=True)
class Gallery:
    """The examples of one seed.

    Attributes:
        cases: in the order in which they are shown.
        seed: whose head answered.
        how: how the maps are made, in a sentence.
        synthetic: whether a program made the cases, so that no picture is of anybody.
        doubt: why the maps should not be read, in a sentence; "" = they may.
    """

    cases: Sequence[Example]
    seed: int
    how: str
    synthetic: bool
    doubt: str = ""
