"""Cells that are numbers, as spreadsheets of several countries write them: each means what it means by itself."""

import re
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from medtl_core.data.names import is_missing, plain_name
from medtl_core.formats.cells import Cells

#: A number whose decimal mark is a comma.
COMMA = re.compile(r"[+-]?(?:\d*|\d{1,3}(?:\.\d{3})+),\d+(?:[eE][+-]?\d+)?")
#: A number with a point in it.
POINT = re.compile(r"[+-]?\d+(?:\.\d+)+")
#: A number that may have points between its thousands.
THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2}(?:\.\d{3})+")
#: Numbers with points between thousands that are no decimal marks, and with what else may stand there.
_POINTS, _GAPS = re.compile(r"[+-]?\d{1,3}(?:\.\d{3}){2,}"), re.compile(r"[+-]?\d{1,3}(?:[ '\u2019]\d{3})+(?:[.,]\d+)?")
_SIGNS = str.maketrans("\u2212\u2013", "--")


def number(text: str, comma: bool) -> float:
    """Returns a cell as a number: NaN where it says that it is missing, infinity where it is none.

    Args:
        text: the cell.
        comma: whether it may have a decimal comma.

    Example:
        >>> number("1.234,5", comma=True), number("12 345", comma=False), number("k. A.", comma=True)
        (1234.5, 12345.0, nan)
    """
    try:
        if "_" not in text:
            return float(text.replace(",", ".") if comma and "." not in text else text)
        return _unusual(text, comma)
    except ValueError:
        return _unusual(text, comma)


def numbers(block: str, comma: bool) -> NDArray[np.float64]:
    """Returns the cells of a block as numbers, as `number` has each of them."""
    one_mark = not (comma and "," in block and "." in block)
    cells = Cells.split(block.replace(",", ".") if comma and one_mark else block)
    try:
        if one_mark and "_" not in block:
            return np.fromiter(map(float, cells), np.float64, len(cells))
    except ValueError:
        pass
    known = {cell: number(cell, comma) for cell in {*Cells.split(block)}}
    return np.fromiter(map(known.__getitem__, Cells.split(block)), np.float64, len(cells))


def has_thousands(cells: Iterable[str]) -> tuple[bool, bool]:
    """Returns whether all points in a column may stand between thousands, and whether something says that they do.

    Numbers with three decimals look the same; but two points, or whole numbers of up to three digits beside them and
    none of more, are what a spreadsheet leaves that shows thousands.
    """
    pointed = short = long = False
    for cell in cells:
        if "." in cell:
            if not THOUSANDS.fullmatch(cell):
                return False, False
            pointed, short = True, short or cell.count(".") > 1
        elif cell.isdecimal():
            short, long = short or len(cell) < 4, long or len(cell) > 3
    return pointed, pointed and short and not long


def _unusual(text: str, comma: bool) -> float:
    """A cell that is no plain number: with signs that nobody sees, marks between thousands, or a word for missing."""
    text = text if text.isascii() else plain_name(text)
    if is_missing(text):
        return float("nan")
    text = text if text.isascii() else text[:1].translate(_SIGNS) + text[1:]
    if _GAPS.fullmatch(text) and (comma or "," not in text):
        text = re.sub("[ '\u2019]", "", text)
    if comma and COMMA.fullmatch(text):
        text = text.replace(".", "").replace(",", ".")
    elif comma and _POINTS.fullmatch(text):
        text = text.replace(".", "")
    try:
        return float("inf") if "_" in text else float(text)
    except ValueError:
        return float("inf")
