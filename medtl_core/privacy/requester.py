"""Who asked, as far as a hospital can know: the number that Flower gave a run, and what the run calls itself."""

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

#: Characters of a name that are kept of what a server says.
_LONGEST = 80


@dataclass(frozen=True)
class Requester:
    """Who asked, by a server's own words: they are written down for people, and nothing is decided by them.

    Attributes:
        run: Flower's number of the run; 0 = not known.
        study: the setting `study`, made harmless; "" = it names none.
    """

    run: int = 0
    study: str = ""

    @classmethod
    def of(cls, run: int, said: object) -> "Requester":
        """Returns who asked, of a name one line of at most 80 printable characters and no double quotes.

        Example:
            >>> Requester.of(7, 'A\\x1b[2J "study"  of\\nlungs').study
            "A[2J 'study' of lungs"
        """
        text = " ".join(unicodedata.normalize("NFC", str(said or "")).split()).replace('"', "'")
        return cls(run, "".join(sign for sign in text if sign.isprintable())[:_LONGEST].strip())

    @property
    def values(self) -> dict[str, Any]:
        """What records keep of it."""
        return {"run": str(self.run), **({"study": self.study} if self.study else {})}


NOBODY = Requester()


def asked_by(values: Mapping[str, Any] | None) -> str:
    """Returns who asked, in words, from what records keep of it; "" where they keep nothing."""
    if not values or values.get("run") in (None, "0"):
        return ""
    named = Requester.of(0, values.get("study")).study
    return f"run {values['run']}" + (f', by the server\'s own words "{named}"' if named else "")


def now() -> str:
    """Returns the time in UTC, to the second, as records keep it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def shown_time(at: str) -> str:
    """Returns a kept time for people; records of an older medtl keep none, ""."""
    return f"{at[:10]} {at[11:16]} UTC" if at else "no date kept"
