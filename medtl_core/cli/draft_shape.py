"""Tables in which a row is no case: a measurement a row, repeated forms, and numbers in the unit of another column.

Read as cases they would be numbers of several meanings in one column, and nothing would tell: so no draft is made.
"""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from medtl_core.data.names import is_missing, plain_name
from medtl_core.errors import DataError
from medtl_core.formats.table import CsvTable
from medtl_core.formats.units import are_units

#: How the names of columns of units begin or end, and of columns that say what was measured, in letters alone.
_UNIT = re.compile(
    r"(.*_)?(units?|einheit(en)?|unites?|unidad(es)?|unidades?|unita|eenheid|enhet|enhed|jednostka|jednotka|value_?uom|uom)(_.*)?"
)
_WHAT = re.compile(
    r"(lab_?)?(tests?|analyte|analyt|parameter|parametro|parametre|item_?(id)?|variable|component|observation|untersuchung|"
    r"messgrosse|examen|esame|exame|loinc)(_?(name|code|cd|id|label|bezeichnung))?|what|lbtestcd|lbtest"
)
#: Share of the rows that are a patient's first ones, below which patients have several rows.
_SEVERAL = 0.67
#: Percent of numbers that say where they lie, and fewest that do.
_MIDDLE, _FEWEST = (5, 95), 5
#: Most different words of a column that says what was measured.
_MOST = 400
#: What REDCap calls the column that names a form which a patient has several times.
_REPEATED = "redcap_repeat_instrument"
_FORMS = (
    f"{_REPEATED!r} is filled, so rows of one patient are of several forms and no cases: export one row a record, with "
    "the repeated values as columns of their own, or summed up"
)
_LONG = (
    "the number: a row is one measurement and no case; make one row of each case's, with a column for whatever was "
    "measured (a pivot table)"
)
_UNITS = (
    "so numbers of several units stand in one column: convert them to one, or give each unit a column of its own; if "
    "it is no unit of numbers, delete the column"
)


def check_cases(parts: Sequence[CsvTable], roles: Sequence[str], patient: str, *, numbers: bool) -> None:
    """Refuses tables in which a row is no case.

    Args:
        parts: the tables, with the same columns.
        roles: columns that say the class, the patient and so on.
        patient: column of patients, or "".
        numbers: whether cases are rows of numbers.

    Raises:
        DataError: says what stands where, and what to do.
    """
    name, columns = parts[0].name, parts[0].columns
    if _REPEATED in columns and not all(map(is_missing, _cells(parts, _REPEATED))):
        raise DataError(f"{name}: {_FORMS}")
    free, what = [column for column in columns if column not in roles], [*filter(_says_what, columns)]
    values = {column: np.concatenate([part.parsed(column) for part in parts]) for column in free if column not in what}
    values = {column: own for column, own in values.items() if np.isfinite(own).sum() > 2 * np.isinf(own).sum()}
    words = {column: _cells(parts, column) for column in free if column not in values}
    patients = _cells(parts, patient) if patient else []
    for column, own in words.items():
        if numbers and (told := [*_told(column, own, values, patients)]):
            raise DataError(f"{name}: {column!r} says what was measured, and {', '.join(map(repr, told))} {_LONG}")
    for column, own in words.items():
        units = {word for word in own if not is_missing(word)}
        named = _UNIT.fullmatch(_letters(column)) and any(_apart(own, one) for one in values.values())
        if len({*map(_letters, units)}) > 1 and (named or are_units(units)):
            raise DataError(f"{name}: {column!r} names {len(units)} units, {_UNITS}")


def check_beside(parts: Sequence[CsvTable], count: int) -> None:
    """Refuses a table without a column that names the cases beside it, which would be left in silence.

    Raises:
        DataError: counts them.
    """
    if count:
        raise DataError(
            f"no column of {parts[0].name} names the {count} images or scans that lie beside it: give --image "
            "COLUMN, or of DICOM files a column sop_instance_uid or accession_number; of the table alone: "
            "medtl data draft FILE"
        )


def _told(
    column: str, words: Sequence[str], values: dict[str, NDArray[np.float64]], patients: Sequence[str]
) -> Iterator[str]:
    """Yields the columns whose numbers mean what a column of words says: they lie apart where it differs."""
    if not 1 < len({*words}) <= _MOST:
        return
    of = patients or [str(row) for row in range(len(words))]
    several = len({*of}) < _SEVERAL * len(of)
    apart = [name for name, own in values.items() if _apart(words, own)]
    varied = [name for name, own in values.items() if len({*zip(of, own.tolist(), strict=True)}) > 1 + len({*of})]
    pairs = len({*zip(of, words, strict=True)})
    if _says_what(column) or (several and pairs > 1 + len({*of}) and {*varied} <= {*apart}):
        yield from apart


def _apart(words: Sequence[str], numbers: NDArray[np.float64]) -> bool:
    """Whether the middle numbers of two words do not overlap."""
    own, there = np.asarray(words, object), np.isfinite(numbers)
    groups = [numbers[there & (own == word)] for word in {*words} if not is_missing(word)]
    ends = [np.percentile(group, _MIDDLE) for group in groups if len(group) >= _FEWEST]
    return any(one[0] > two[1] or two[0] > one[1] for one, two in combinations(ends, 2))


def _cells(parts: Sequence[CsvTable], column: str) -> list[str]:
    return [plain_name(cell) for part in parts for cell in part.columns[column]]


def _says_what(column: str) -> bool:
    """Whether a column says what was measured, by its name."""
    return bool(_WHAT.fullmatch(_letters(column)))


def _letters(name: str) -> str:
    """A name in small letters without accents, "_" between words."""
    plain = unicodedata.normalize("NFKD", name.casefold())
    return re.sub(r"[\W_]+", "_", "".join(sign for sign in plain if not unicodedata.combining(sign))).strip("_")
