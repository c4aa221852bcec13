"""What a reader needs of a CSV file's columns: that they are there, labels, splits."""

import difflib
import re
import unicodedata
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from medtl_core.data.names import missing
from medtl_core.errors import DataError
from medtl_core.formats.table import EMPTY, ONE_COLUMN, CsvTable
from medtl_core.values import Array, Task

SPLITS = ("train", "val", "test")
#: Signs of what is no word for a class that is missing, such as NaN.
_NO_WORD = 3
#: Classes named where a label is none of them.
_CLASSES = 12
#: Words for a column that are near enough to be meant, in letters alone.
_NUMBER = "(id|ids|uid|code|nr|no|num|number|nummer|key|hash)"
_MEANT = {
    "site": "(sites?|hospitals?|hopital|ospedale|spital|krankenhaus|cent(re|er)s?|centrum|centro|zentrum|institution"
    f"|institut[eo]?|clini(cs?|que|ca)|klinik(um)?|facility|standort|organi[sz]ation)(names?|label|{_NUMBER})?",
    "split": f"((data|dataset)?(split|folds?|subset|partition)|set|train(val)?test)(name|{_NUMBER})?|is(test|train)",
    "patient_id": f"(patients?|patient[ei]n|subjects?|participants?|proband(en|in)?|person|pseudonym|mrn|pid){_NUMBER}?"
    f"|pat{_NUMBER}|fall(id|nr)|(case|study)id",
}


#: How the names of files end that are tables.
TABLES = (".csv", ".tsv")


def refuse_whole(table: CsvTable) -> None:
    """Refuses a table about which something is wrong that no single row is at fault for, such as two decimal marks.

    Raises:
        DataError: names every such cause.
    """
    if causes := [str(fault) for fault in table.faults.causes if not fault.places]:
        raise DataError(*causes)


def require(table: CsvTable, needed: Sequence[str], optional: Sequence[str] = ()) -> None:
    """Refuses a table that lacks a needed column, or that seems to misspell an optional one.

    Names are never guessed: a column that looks like `site` but is not called so would silently make one hospital.

    Raises:
        DataError: names what is expected, what is there, and the nearest name, for each column.
    """
    present, causes = list(table.columns), list[str]()
    missing = [name for name in needed if name not in present]
    if missing and len(present) == 1:
        raise DataError(f"{table.name}: {ONE_COLUMN}")
    if missing:
        free = [name for name in present if name not in needed]
        # Without one known name, the first line may be no header but a patient's row: it is not quoted.
        known = len(missing) < len(needed) or any(name in present for name in optional)
        seen = f"found {', '.join(present)}" if known else "its first line names none of these"
        wanted = f"expected {', '.join([*needed, *optional])}; {seen}"
        causes += [f"{table.name}: column {name!r} is missing; {wanted}; {_nearest(name, free)}" for name in missing]
    for name in optional:
        near = difflib.get_close_matches(name, [column.lower() for column in present], n=1, cutoff=0.8)
        words = re.compile(_MEANT.get(name, "(?!)"))
        meant = [column for column in present if column.lower() in near or words.fullmatch(_letters(column))]
        if name not in present and meant:
            causes.append(f"{table.name}: column {meant[0]!r} looks like {name!r}; rename it to {name!r}, or otherwise")
    if causes:
        raise DataError(*causes)


def encode(
    table: CsvTable, column: str, task: Task | None, labels: Mapping[str, str] | None = None
) -> tuple[NDArray[np.int64], Task]:
    """Returns the label column as class numbers (int64 [n]) and the task; without a task the found labels, sorted.

    What a row that is at fault by now calls its class is none that is found: it may be a second header, or a sum. A
    label that is empty or no class of the task is a fault. `labels` says which class a file's value stands for, where
    they differ.
    """
    values = table.plain(column)
    empty = missing(values) & ~np.isin(values, task.classes if task else ())
    said = empty & (np.char.str_len(values) > _NO_WORD)
    table.fault(column, empty & ~said, *EMPTY)
    table.fault(
        column,
        said,
        "says that the class is missing",
        "fill it or drop the row; is the word a class, name it in task.json",
    )
    if labels:
        values = np.asarray([labels.get(value, value) for value in values.tolist()])
    found = ~empty if task else ~empty & np.isin(np.arange(len(table)), table.faults.rows, invert=True)
    task = task or Task(column, tuple(sorted({*values[found].tolist()})))
    expected = ", ".join(task.classes[:_CLASSES]) + (" ..." if task.classes[_CLASSES:] else "")
    unknown = ~np.isin(values, task.classes) & found
    table.fault(column, unknown, f"holds no class of task {task.name!r}", f"expected one of {expected}")
    number = {name: index for index, name in enumerate(task.classes)}
    return np.asarray([number.get(value, 0) for value in values.tolist()], dtype=np.int64), task


def splits(table: CsvTable, column: str) -> Array:
    """Returns the split column (str [n]): "train" where there is no such column; a cell that is no split is a fault."""
    values = table.names(column, "train")
    if column in table.columns:
        wrong = ~np.isin(values, SPLITS) & ~missing(values)
        table.fault(column, wrong, "holds no split", f"expected one of {', '.join(SPLITS)}")
    return values


def _letters(column: str) -> str:
    """The small letters of a name, without accents and what stands between them."""
    return re.sub("[^a-z]", "", unicodedata.normalize("NFKD", column).lower())


def _nearest(name: str, present: list[str]) -> str:
    """Also finds `patient` for `patient_id`, which differ by more than difflib's usual cut-off allows."""
    low = {column.lower(): column for column in present}
    close = difflib.get_close_matches(name, list(low), n=1, cutoff=0.55)
    if not close:
        return f"rename the right column to {name!r}"
    return f"did you mean {low[close[0]]!r}? Rename it to {name!r}"
