"""What columns of measurements may mean beside what they say: a code for a missing value, the diagnosis once more.

Nothing is changed by a doubt: it is a sentence for a person to read, and counts rows in the building only.
"""

import re
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from medtl_core.formats.table import CsvTable

#: Numbers that stand for "not measured" in many hospitals' tables.
_CODES = (-9, -99, -999, -9999, 99, 999, 9999, 99999)
#: Parts of the names of columns of which even a number may tell who a patient is.
_PERSONS = (
    "birth", "geburt", "dob", "zip", "postal", "plz", "postleitzahl", "phone", "telefon", "insurance", "versicher",
    "ssn",
)  # fmt: skip
#: Names of columns of numbers that say whose a row is.
_ID = re.compile(r"(.*[ _.-])?(id|ids|mrn|pid)|(fall|patienten|patient)[ _.-]?(nr|nummer|no|number)[.]?")
_DATE = re.compile(r"(.*[ _.-])?(date|datum|fecha)([ _.-].*)?|[a-z]*datum")
#: Fewest cases in which a column that tells the classes apart is no accident.
_CASES = 20


def doubts(
    table: CsvTable, names: Sequence[str], values: NDArray[np.float64], label: NDArray[np.int64] | None = None
) -> Iterator[str]:
    """Yields what is doubtful, a sentence each.

    Args:
        table: the file.
        names: of the columns.
        values: [n, columns]; NaN = not measured.
        label: [n], the classes, where a case has one.
    """
    for name, column in zip(names, values.T, strict=True):
        known, where = column[~np.isnan(column)], f"{table.name}: column {name!r}"
        if any(word in name.lower() for word in _PERSONS) or _DATE.fullmatch(name.lower()) or _dates(known):
            yield f"{where} may tell who a patient is: leave it out, or give an age, or days since an event, instead."
        if is_id(name) and np.all(known == np.round(known)):
            yield f"{where} seems to say whose a row is: call it 'patient_id', or leave it out."
        if table.points(name)[0]:
            yield f"{where} has points before three digits only, and they are read as decimal marks."
        for code in _CODES:
            if count := _strange(known, code):
                yield (
                    f"{where} holds {code} in {count} rows, far from all its other values: if that "
                    "stands for 'not measured', empty those cells, or name the code in schema.toml."
                )
        if label is not None and _tells(column, label):
            yield (f"{where} alone tells every class: if it was written with or after the diagnosis, leave it out.")


def is_id(column: str) -> bool:
    """Returns whether a column says whose a row is, by its name."""
    return bool(_ID.fullmatch(column.strip().lower()))


def _dates(known: NDArray[np.float64]) -> bool:
    """Whether all numbers are days such as 20240131."""
    day, month = known % 100, known // 100 % 100
    likely = (known > 19e6) & (known < 21e6) & (month >= 1) & (month <= 12) & (day >= 1) & (day <= 31)
    return len(known) > 1 and bool(likely.all())


def _strange(known: NDArray[np.float64], code: int) -> int:
    """How often a code occurs, if more than once and farther from all other values than these are from each other."""
    there = known == code
    count, rest = int(there.sum()), known[~there]
    return count if count > 1 and len(rest) > 1 and np.abs(rest - code).min() > np.ptp(rest) else 0


def _tells(column: NDArray[np.float64], label: NDArray[np.int64]) -> bool:
    """Whether a few values, each of one class, tell all classes apart."""
    known = ~np.isnan(column)
    pairs = {*zip(column[known].tolist(), label[known].tolist(), strict=True)}
    values, classes = ({pair[place] for pair in pairs} for place in (0, 1))
    return known.sum() >= _CASES and len(pairs) == len(values) <= 2 * len(classes) and len(classes) > 1
