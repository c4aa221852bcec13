"""What may keep a hospital from taking part, found before it joins: a table of small checks, run at once."""

import logging
import math
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from medtl_core.errors import MedtlError
from medtl_core.privacy.hospital import Hospital

_LOG = logging.getLogger("medtl")


@dataclass(frozen=True)
class CheckResult:
    """One thing that a check found.

    Attributes:
        cause: what is wrong, and where; it stays in the building.
        cure: what a person can do about it; never to delete data.
        kind: "fatal" = the hospital does not start so; "fault" = it would fail or wait; "note" = good to know.
    """

    cause: str
    cure: str = ""
    kind: Literal["fatal", "fault", "note"] = "fault"

    @classmethod
    def of(cls, error: MedtlError | str, cure: str, kind: Literal["fatal", "fault", "note"] = "fatal") -> "CheckResult":
        """Returns an error as a finding; its own remedy, behind the first semicolon, goes before the one given."""
        cause, _, remedy = str(error).partition("; ")
        return cls(cause, remedy or cure, kind)

    def __str__(self) -> str:
        return f"{self.cause}; {self.cure}" if self.cure else self.cause


@dataclass(frozen=True)
class Subject:
    """The hospital that is looked at.

    Attributes:
        folder: its own.
        hospital: as far as its file can be read; None = it does not even say where its data are.
        table: what the file says.
        found: what reading it told.
        page: port of the status page; 0 = none.
    """

    folder: Path
    hospital: Hospital | None = None
    table: Mapping[str, Any] = field(default_factory=dict)
    found: tuple[CheckResult, ...] = ()
    page: int = 0


@dataclass(frozen=True)
class Check:
    """One check.

    Attributes:
        name: what is looked at, in a word or two.
        run: finds what is wrong; a check that needs the hospital's file is not run where `Subject.hospital` is None.
        quick: whether it is run before each start as well.
        seconds: after which it is given up.
        always: whether it needs nothing but the folder.
    """

    name: str
    run: Callable[[Subject], Iterable[CheckResult]]
    quick: bool = False
    seconds: float = 20.0
    always: bool = False


def findings(subject: Subject, checks: Sequence[Check], *, limited: bool = True) -> dict[str, tuple[CheckResult, ...]]:
    """Runs checks side by side and returns what each found, by name, in their order.

    None takes longer than it may, unless all are to be waited for.
    """
    found: dict[str, tuple[CheckResult, ...]] = {}
    able = [check for check in checks if check.always or subject.hospital is not None]

    def look(check: Check) -> None:
        found[check.name] = _told(check, subject)

    threads = [threading.Thread(target=look, args=(check,), daemon=True) for check in able]
    for thread in threads:
        thread.start()
    _join(threads, [check.seconds if limited else math.inf for check in able])
    return {check.name: found[check.name] if check.name in found else (_late(check),) for check in able}


def _join(threads: Sequence[threading.Thread], seconds: Sequence[float]) -> None:
    """Waits for every thread, at most so many seconds from now."""
    started = time.monotonic()
    for thread, allowed in zip(threads, seconds, strict=True):
        left = started + allowed - time.monotonic()
        thread.join(max(left, 0.0) if math.isfinite(left) else None)


def _told(check: Check, subject: Subject) -> tuple[CheckResult, ...]:
    try:
        return tuple(check.run(subject))
    except MedtlError as error:
        return (CheckResult.of(error, "mend it, and check again", "fault"),)
    except Exception as error:
        _LOG.debug("the check of %s failed", check.name, exc_info=True)
        return (
            CheckResult(f"{check.name} could not be looked at ({error})", "tell the makers of medtl of it", "fatal"),
        )


def _late(check: Check) -> CheckResult:
    return CheckResult(
        f"{check.name} could not be looked at within {check.seconds:g} s",
        "a slow or absent disk or network does that; see whether it answers, and check again",
    )
