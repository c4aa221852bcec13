"""What is wrong with single cases: collected while data are read, and settled in one place.

Reading goes on past a bad case, so that all are known at once. A file that cannot be read as a whole is a `DataError`.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from itertools import compress
from typing import final

import numpy as np
from numpy.typing import NDArray

from medtl_core.data.names import is_missing
from medtl_core.errors import DataError
from medtl_core.values import Array

#: A larger share of cases at fault than this refuses the data: then the file is wrong, and not single cases.
LIMIT = 0.1

_SHOWN = 5


@final
class Row(str):
    """The place of a case in a file: "row 7", as an editor numbers lines; in brackets the image it names, if any."""

    __slots__ = ()


@dataclass(frozen=True)
class Fault:
    """One cause, and the cases that it costs.

    Attributes:
        cause: a sentence that quotes no cell of a patient's.
        remedy: what a person can do about it.
        places: of each case: a `Row`, or a file's name; none = all together.
    """

    cause: str
    remedy: str
    places: tuple[str, ...]

    @property
    def counted(self) -> str:
        """What a report may show: rows by number; files are counted, for a file's name may be a person's."""
        rows = tuple(place.partition(" (")[0] for place in self.places if isinstance(place, Row))
        if len(rows) == len(self.places):
            return str(replace(self, places=rows))
        cases = "1 case" if len(self.places) == 1 else f"{len(self.places)} cases"
        return f"{self.cause} ({cases}); {self.remedy}"

    def __str__(self) -> str:
        more = f" and {len(self.places) - _SHOWN} more" if len(self.places) > _SHOWN else ""
        where = f" in {', '.join(self.places[:_SHOWN])}{more}" if self.places else ""
        return f"{self.cause}{where}; {self.remedy}"


@final
class Faults:
    """What was found wrong with single cases, by cause.

    Guarantee:
        Unit: patient. Whether a case is at fault is for its reader to say by that case alone. Texts may name places:
        they stay in the building.
    """

    def __init__(self) -> None:
        #: What a reader calls the case of a row; it sets this before it names any.
        self.place: Callable[[int], str] = lambda row: f"case {row + 1}"
        self._rows: dict[tuple[str, str], dict[int, str]] = {}

    def case(self, rows: int | Iterable[int], cause: str, remedy: str) -> None:
        """Notes that the cases of these rows (positions in the `Examples` that are read) cannot be used."""
        named = {int(row): self.place(int(row)) for row in np.atleast_1d(np.asarray(rows))}
        if named:
            self._rows.setdefault((cause, remedy), {}).update(named)

    def whole(self, cause: str, remedy: str) -> None:
        """Notes what is wrong with all cases together."""
        self._rows[cause, remedy] = {}

    @property
    def rows(self) -> NDArray[np.int64]:
        """The rows at fault, int64 [m], each once."""
        return np.asarray(sorted({row for rows in self._rows.values() for row in rows}), dtype=np.int64)

    @property
    def causes(self) -> tuple[Fault, ...]:
        """Every cause with the places of its cases, in the order of reading."""
        return tuple(Fault(*key, tuple(rows[row] for row in sorted(rows))) for key, rows in self._rows.items())

    def usable(self, count: int) -> NDArray[np.int64]:
        """Returns which of `count` cases are left, int64 [m]."""
        return np.delete(np.arange(count), self.rows)

    def check(self, where: str, count: int, sites: Array | None = None) -> None:
        """Refuses data of `count` cases of which too many are at fault, of all or of one hospital's, or all together.

        Args:
            where: what the data are called.
            count: number of cases.
            sites: str [count], the hospital of each, where there are several.

        Raises:
            DataError: more than `LIMIT` of them are; the first cause is named.
        """
        for name in ("", *(np.unique(sites).tolist() if sites is not None and len(self.rows) else ())):
            there = sites == name if sites is not None and name else np.ones(count, dtype=bool)
            bad = {*self.rows[there[self.rows]].tolist()}
            few = name and (is_missing(name) or len(bad) == 1 < there.sum())  # one bad case costs that case only
            if len(bad) > LIMIT * there.sum() and not few:
                own = [bool(bad & {*rows}) for rows in self._rows.values()]
                first, *others = compress(self.causes, own)
                more = f" ({len(others)} more causes: medtl data check names all)" if others else ""
                whose = f" of {name!r}" if name else ""
                share = f"{len(bad)} of {there.sum()} cases{whose} cannot be used, more than {LIMIT:.0%}"
                raise DataError(f"{where}: {share}: {first}{more}")
        for fault in self.causes:
            if not fault.places:
                raise DataError(f"{where}: {fault}")
