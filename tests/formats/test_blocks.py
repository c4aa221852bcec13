"""Tables are read in blocks; what a row-by-row reader makes of every cell, blocks must make of it too."""

import csv
import io
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from medtl_core.data.faults import Faults
from medtl_core.data.names import one_patient_each, plain_name
from medtl_core.formats import table as tables
from medtl_core.formats.numbers import number
from medtl_core.formats.table import CsvTable, read_csv
from tests.formats.clinic import ROWS, clinic, read

#: Cells that mean something to a spreadsheet, to Python's float or to csv.
ODD = (
    "", " ", "0", "-9", "-9.0", "-9,0", "7.25", "7,25", "1.234,5", "1,234.5", "1.234.567", "1e5", "1E-3", "1e400",
    "1_000", "+5", "-inf", "nan", "-nan", "NaN", "NA", "#N/A", "n/a", "-", ".", "=A1", "@x", "x y", "x  y", " 3 ",
    "\uff11\uff12", "\u0664", "3\u00a0", "3\u200b", "\u200b", "\u00a0", "M\u00fcnchen", "Mu\u0308nchen", "\u20ac 5",
    'five" nails', '"', "two\nlines", "two\r\nlines", "a;b", "a,b", "a\tb", "\x0b", "\x0c3", "\x1c", "\x85", "\u2028",
    "0" * 600,
)  # fmt: skip
cell = st.sampled_from(ODD) | st.decimals(-999, 999, places=2).map(str) | st.text("0123456789.,-eE_ ", max_size=6)
row = st.lists(cell, min_size=3, max_size=3) | st.lists(cell, max_size=5) | st.just(["", " ", ""])


@settings(max_examples=60, deadline=None)
@given(
    st.lists(row, max_size=12),
    st.sampled_from(",;\t|"),
    st.sampled_from(["\n", "\r\n", "\r"]),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "cp1252"]),
    st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    st.sampled_from([1, 40, 1 << 20]),
)
@example([["1", "2", "3"], ["1", 'two\n"lines"', "3"], ["4", "5", "6"]], ",", "\n", "utf-8", csv.QUOTE_MINIMAL, 1)
def test_blocks_say_what_rows_say(
    rows: list[list[str]], separator: str, end: str, encoding: str, quoting: int, size: int
) -> None:
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=separator, lineterminator=end, quoting=quoting)  # type: ignore[arg-type]
    writer.writerows([["label", "patient_id", "a"], *rows])
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(tables, "BLOCK", size)
        path = Path(folder) / "t.csv"
        path.write_bytes(text.getvalue().encode(encoding, errors="replace"))
        faults = Faults()
        table = read_csv(path, faults)
        assert table.dialect.separator == separator
        wanted, lines = by_rows(path.read_bytes().decode(encoding), separator)
        assert [*map(list, table.columns.values())] == [[*column] for column in wanted]
        assert [faults.place(place) for place in range(len(table))] == [f"row {line}" for line in lines]
        for name, cells in zip(table.columns, wanted, strict=True):
            check_column(table, name, cells)


def by_rows(text: str, separator: str) -> tuple[Sequence[Sequence[str]], list[int]]:
    """Columns and line numbers of a CSV text, one row after the other."""
    reader, rows, lines, last = csv.reader(io.StringIO(text, newline=""), delimiter=separator), [], [], 0
    for cells in reader:
        line, last = last + 1, reader.line_num
        if any(map(str.strip, cells)):
            cells = cells[:3] if len(cells) == 4 and not cells[3].strip() else cells  # a separator ends the line
            rows.append([cell.strip() for cell in cells] if len(cells) == 3 else [""] * 3)
            lines.append(line)
    return ([*zip(*rows[1:], strict=True)] or [()] * 3), lines[1:]


def check_column(table: CsvTable, name: str, cells: Sequence[str]) -> None:
    comma = table.dialect.separator != ","
    np.testing.assert_array_equal(table.parsed(name), [number(cell, comma) for cell in cells])
    short = ["" if len(cell) > 500 else cell for cell in cells]
    assert table.names(name).tolist() == [plain_name(cell) for cell in short]
    words, place = table.words(name)
    assert [words[one] for one in place] == short


@settings(max_examples=12, deadline=None)
@given(st.lists(cell, min_size=1, max_size=5))
def test_a_cell_of_records_means_the_same_whatever_stands_around_it(cells: list[str]) -> None:
    with TemporaryDirectory() as folder:
        values, _, faults = read(clinic(Path(folder), quoted(cells)))
        for place, one in enumerate(cells):
            alone, _, own = read(clinic(Path(folder), quoted([one])))
            np.testing.assert_array_equal(alone["table"][0], values["table"][place])
            assert (place in faults.rows) == bool(len(own.rows))


def quoted(cells: list[str]) -> str:
    """Records with these values of glucose."""
    text = io.StringIO(newline="")
    rows = [["P", "north", "no", cell, "no", "I"] for cell in cells]
    csv.writer(text, quoting=csv.QUOTE_ALL).writerows([ROWS.splitlines()[0].split(","), *rows])
    return text.getvalue()


IDS = ("7", "007", "7.0", "7,", "p", "P", "\uff30", "Stra\u00dfe", "STRASSE", "8", "\u0967")


@given(st.lists(st.sampled_from(IDS), min_size=2))
def test_who_is_one_patient_hangs_on_no_other(ids: list[str]) -> None:
    names = one_patient_each(np.asarray(ids, np.str_))
    for one, other in pairwise(range(len(ids))):
        both = one_patient_each(np.asarray([ids[one], ids[other]], np.str_))
        assert (both[0] == both[1]) == (names[one] == names[other])
