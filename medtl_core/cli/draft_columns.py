"""Which columns of people's own tables are measurements: of numbers, and of two words as 1 and 0."""

import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from medtl_core.data.faults import Faults
from medtl_core.data.names import is_missing, plain_name
from medtl_core.errors import DataError
from medtl_core.formats.alike import look_of_class
from medtl_core.formats.doubts import is_id
from medtl_core.formats.numbers import COMMA, POINT, THOUSANDS, number
from medtl_core.formats.table import CsvTable

#: A column of more different words than this may say who a patient is, and stays out of a draft.
MOST_WORDS = 12
#: Names of columns that an error shows.
_SHOWN = 8
#: Whole numbers as large as this that differ in every row are ids.
_LONG = 1e5
#: Share of a column's cells that may be no number before it is one of words.
_ODD = 0.5
#: What points before three digits may be.
POINTS = ("thousands", "decimals")
#: A value that is only known to lie below or above a number.
_LIMIT = re.compile(r"[<>\u2264\u2265~]=?\s*[+-]?\d[\d.,]*.*")
#: A number with commas in it, of a file that commas separate, and one whose commas may stand between thousands.
_COMMAS, _GROUPS = re.compile(r"[+-]?\d+(,\d+)+(\.\d+)?"), re.compile(r"[+-]?[1-9]\d{0,2}(,\d{2,3})*,\d{3}")
#: A number with its unit.
_WITH_UNIT = re.compile(r"[+-]?\d+(?:[.,]\d+)?\s*(?:%|[^\W\d_][\w/%.^ ]*|\u00b0[CF])")
_NO_NUMBERS = (
    "write a unit into the column's name, describe words in schema.toml, or name the images with --image COLUMN"
)
_ASK = "numbers have points in {}, which may be thousands or decimals: say --points thousands or --points decimals"


def measure(
    parts: Sequence[CsvTable], columns: Sequence[str], points: str, *, images: bool, alone: bool
) -> tuple[dict[str, list[str]], list[str]]:
    """Returns the columns of a manifest that are measurements, and what a person should know of them and of others.

    Args:
        parts: the tables, with the same columns.
        columns: those of which it is asked.
        points: what points before three digits are, one of `POINTS`; "" = nobody says.
        images: whether cases are images; then columns of few words are kept, too.
        alone: whether nothing but measurements says what a case is.

    Raises:
        DataError: what points are must be said, or there is no measurement and must be one.
    """
    numbers: dict[str, list[str]] = {}
    unclear, out, lines = list[str](), list[str](), list[str]()
    for column in columns:
        found = [_values(part, column, points) for part in parts]
        values, wrong = np.concatenate([one for one, _, _ in found]), sum(count for _, count, _ in found)
        known, cells = values[~np.isnan(values)], [cell for part in parts for cell in part.columns[column]]
        if not wrong and len(known) and any(ask for _, _, ask in found):
            unclear.append(column)
        if not wrong and len(known) and not _are_ids(values) and not is_id(column):
            numbers[column] = ["" if np.isnan(value) else f"{value:.15g}" for value in values.tolist()]
        elif images and len({*cells}) <= MOST_WORDS:
            numbers[column] = cells
        elif wrong and (why := _why(cells, wrong, len(known))):
            lines.append(f"to do: {column!r} holds {why.format(len(values))}")
        else:
            out.append(column)
    if unclear:
        raise DataError(_ASK.format(", ".join(map(repr, unclear))))
    if not numbers and alone:
        shown = ", ".join(columns[:_SHOWN]) + " ..." * (len(columns) > _SHOWN)
        named = f"{parts[0].name}: none of {shown or 'its columns'} holds numbers alone"
        raise DataError("; ".join([named, _NO_NUMBERS, *lines]))
    flags = {} if images or not numbers else _flags(parts, out)
    numbers |= dict(flags.values())
    out = [column for column in out if column not in flags]
    lines = [*([f"measurements: {', '.join(numbers)}"] if alone else []), *lines]
    return numbers, lines + ([f"left out (words, or numbers as ids are): {', '.join(out)}"] if out else [])


def _why(cells: Sequence[str], wrong: int, known: int) -> str:
    """Why a column of numbers is left out, in words with a place for the number of rows; "" of a column of words."""
    forms = (_LIMIT, _COMMAS, _WITH_UNIT)
    limits, commas, units = (sum(map(bool, map(form.fullmatch, cells))) for form in forms)
    if 2 * limits > wrong:
        return f"limits such as < or > in {limits} of {{}} rows, and is left out: write one number for each"
    if 2 * commas > wrong:
        return f"numbers with commas in {commas} of {{}} rows, and is left out: write points for decimals only"
    if 2 * units > wrong:
        return (
            f"numbers with words behind them in {units} of {{}} rows, and is left out: write numbers of one unit alone"
        )
    return f"no number in {wrong} of {{}} rows, and is left out" if wrong <= _ODD * (wrong + known) else ""


def _flags(parts: Sequence[CsvTable], columns: Sequence[str]) -> dict[str, tuple[str, list[str]]]:
    """Column of two words -> its name, with the word that is 1, and its cells as 1 and 0."""
    found = {}
    for column in columns:
        cells = [plain_name(cell) for part in parts for cell in part.columns[column]]
        words = sorted({cell for cell in cells if not is_missing(cell)})
        if (
            len(words) == 2
            and len(cells) > MOST_WORDS
            and not any(np.isfinite(number(word, comma=True)) for word in words)
        ):
            yes = next((word for word in words if look_of_class(word) == "yes"), words[1])
            told = {words[0]: "0", words[1]: "0", yes: "1"}
            found[column] = f"{column}={yes}", [told.get(cell, "") for cell in cells]
    return found


def _values(part: CsvTable, column: str, points: str) -> tuple[NDArray[np.float64], int, bool]:
    """A column's numbers, how many cells hold none, and whether its points may be thousands or decimals."""
    if points:
        change = {"thousands": (THOUSANDS, ""), "decimals": (POINT, ",")}[points]
        cells = [(change[0].fullmatch(cell) and cell.replace(".", change[1])) or cell for cell in part.columns[column]]
        grouped = [*map(_GROUPS.fullmatch, filter(COMMA.fullmatch, cells))] if points == "decimals" else []
        if grouped and all(grouped) and cells == [*part.columns[column]]:  # the file's decimal mark is the point
            raise DataError(
                f"{part.name}: commas in column {column!r} stand before three digits only, and may be thousands where "
                "points are decimals: write nothing between thousands"
            )
        part = part.replaced(column, cells)
    part = replace(part, faults=Faults())
    values = part.numbers(column)
    ask = part.points(column)[0] or any(not fault.places for fault in part.faults.causes)
    return values, len(part.faults.rows), ask


def _are_ids(values: NDArray[np.float64]) -> bool:
    """Whether whole numbers that differ in every row are ids: in order, or long."""
    if len(values) <= MOST_WORDS or np.any(values != np.round(values)) or len(np.unique(values)) < len(values):
        return False
    steps = np.diff(values)
    return bool(np.all(steps > 0) or np.all(steps < 0) or np.abs(values).min() >= _LONG)
