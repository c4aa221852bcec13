"""Between which limits the columns of a table lay where a head was trained: what lies beyond them is in doubt."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Self, final

import numpy as np

from medtl_core.config import kind_of
from medtl_core.errors import WeightsError
from medtl_core.predict.answer import Answer
from medtl_core.predict.cases import NewCases
from medtl_core.values import Array

#: Under which name a head's facts hold the limits.
USUAL = "usual"
#: Standard deviations from the mean at which a column's limits lie, and within which the mean of a whole file does.
FAR, _TOGETHER = 10.0, 3.0
#: Fewest rows of a file of which the mean is looked at.
_ROWS = 10
#: Columns that are named of those that lie far.
_SHOWN = 3


@final
@dataclass(frozen=True)
class Usual:
    """Limits of the columns of a table, in their order; NaN where too few cases had a value.

    Attributes:
        names: of the columns, k of them.
        low, high: float64 [k], of a column of 0 and 1 these two.
        always: bool [k], whether no training case lacked it.
    """

    names: tuple[str, ...]
    low: Array
    high: Array
    always: Array

    @classmethod
    def of_facts(cls, facts: Mapping[str, Any], columns: Sequence[str]) -> Self | None:
        """Returns what a head's facts say of the columns that it reads, None where they say nothing.

        Raises:
            WeightsError: they say something else.
        """
        if not (told := facts.get(USUAL)):
            return None
        names = tuple(name for name in columns if kind_of(name) != "signal")
        try:
            low, high = (np.asarray(told[name], np.float64) for name in ("low", "high"))
            always = np.asarray(told["always"], np.bool_)
        except (LookupError, TypeError, ValueError) as error:
            raise WeightsError(f"the head's manifest has a damaged entry {USUAL!r}; train and save it anew") from error
        if {low.shape, high.shape, always.shape} != {(len(names),)} or (low > high).any():
            raise WeightsError(f"the head's manifest has a damaged entry {USUAL!r}; train and save it anew")
        return cls(names, low, high, always)

    def doubts(self, table: Array, *, apart: bool = False) -> list[str]:
        """Returns what speaks against an answer to each row of a table [n, k], NaN = not measured; "" = nothing.

        Of ten rows and more the mean of a column is looked at, too: fractions where percents were learnt from, or
        mmol/l where mg/dl were, lie each by itself near enough; and whether 0 and 1 stand there as 1 and 2. With
        `apart` a case may lack all columns of a kind, as "gene" of "gene:a"; those without a word before are one.
        """
        beyond, gaps = (table < self.low) | (table > self.high), np.isnan(table)
        lacks = gaps & self.always & ~(apart & self._lacking(gaps))
        inside, flags = np.where(gaps | beyond, 0.0, table), (self.low == 0) & (self.high == 1)
        count = (~gaps & ~beyond).sum(axis=0)
        away = np.abs(inside.sum(axis=0) / np.maximum(count, 1) - (self.low + self.high) / 2)
        odd = (away > _TOGETHER / FAR * (self.high - self.low) / 2) & (count >= _ROWS) & ~flags
        odd |= flags & beyond.any(axis=0) & ~(table == 0).any(axis=0)  # 1 and 2 stand for 0 and 1
        return [_doubt(*row, self.names) for row in zip(beyond, ~gaps & odd, lacks, strict=True)]

    def _lacking(self, gaps: Array) -> Array:
        """Whether a case lacks all columns of a column's kind, bool [n, k] as `gaps`."""
        kinds = [name.partition(":")[0] if ":" in name else "" for name in self.names]
        same = np.equal.outer(kinds, kinds)
        return np.asarray(gaps.astype(np.int64) @ same == same.sum(axis=0))

    def told(self, cases: NewCases, answers: Iterable[Answer], *, apart: bool) -> Iterator[Answer]:
        """Yields answers, those of cases that could not be read first, with what speaks against them as their doubt."""
        each = iter(answers)
        yield from islice(each, len(cases.faults))
        for answer, doubt in zip(each, self.doubts(cases.examples["table"], apart=apart), strict=True):
            yield answer if answer.fault or not doubt else replace(answer, doubt=doubt)


def _doubt(beyond: Array, odd: Array, lacks: Array, names: Sequence[str]) -> str:
    for which, words in (
        (beyond, "holds a value far from all that the head learnt from: another unit, or a code for 'not measured'?"),
        (odd, "is, over all rows, far from what the head learnt from: another unit, other codes or other patients?"),
        (lacks, "is empty, and no case that the head learnt from lacked it"),
    ):
        if found := [repr(names[place]) for place in np.flatnonzero(which).tolist()]:
            more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
            also = f" (and {', '.join(found[1:_SHOWN])}{more})" if len(found) > 1 else ""
            return f"column {found[0]}{also} {words}"
    return ""
