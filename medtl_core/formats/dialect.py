"""How a CSV file is written: encoding, separator and decimal mark, as spreadsheets of many countries save them.

All of it follows from the file's first bytes and its header, or for each line from that line: no patient's row changes
how another's is read.
"""

import codecs
import csv
import gzip
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO, TextIOWrapper
from itertools import chain
from pathlib import Path
from typing import BinaryIO

from medtl_core.errors import DataError

#: Separators of columns, the usual one first; by all others a number may have a decimal comma.
_SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
_MARKS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
#: Cells by which the right separator is known where two give as many columns.
_KNOWN = {"path", "label", "patient_id", "site", "split"}
#: A packed table that holds more is refused: a small file may unpack to a huge one.
MAX_UNPACKED = 1 << 29
#: How the files of spreadsheet programs begin, which are no text.
_WORKBOOKS = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")


@dataclass(frozen=True)
class Dialect:
    """How one file is written.

    Attributes:
        encoding: "utf-8" is checked line by line: one that is none is Windows-1252, as old spreadsheets write it.
        stated: whether the first line says the separator ("sep=;") and is no header.
    """

    encoding: str
    separator: str
    stated: bool = False

    @property
    def words(self) -> tuple[str, ...]:
        """What is unusual about it, in words."""
        separator = () if self.separator == "," else (f"separated by {_SEPARATORS[self.separator]}",)
        names = {"utf-8": "", "utf-8-sig": "UTF-8 with a byte order mark"}
        encoding = names.get(self.encoding, self.encoding.upper())
        return (*separator, *([encoding] if encoding else []))


def read_dialect(path: Path) -> Dialect:
    """Returns how a file is written, by its first bytes and its first line that is not blank.

    Raises:
        DataError: it is a workbook, and no text.
        OSError, UnicodeError: it cannot be read.
    """
    with _opened(path) as handle:
        first = handle.read(4)
    if first.startswith(_WORKBOOKS):
        raise DataError(f"{path} is a workbook; in the spreadsheet program save it as CSV UTF-8")
    encoding = next((name for mark, name in _MARKS if first.startswith(mark)), "utf-8")
    if encoding == "utf-8" and b"\0" in first:  # UTF-16 without its mark: a header is mostly ASCII
        encoding = "utf-16-be" if first.startswith(b"\0") else "utf-16-le"
    line = next((line for line, _ in _lines(path, encoding) if line.strip(" \t\r\n\ufeff,;|")), "").strip("\r\n\ufeff")
    if line.lower().startswith("sep=") and line[4:5] in _SEPARATORS and len(line) == len("sep=;"):
        return Dialect(encoding, line[4], stated=True)
    cells = {sign: [cell.strip() for cell in next(csv.reader([line], delimiter=sign), [])] for sign in _SEPARATORS}
    return Dialect(encoding, max(cells, key=lambda sign: (len(_KNOWN & {*cells[sign]}), len(cells[sign]))))


def read_lines(path: Path, dialect: Dialect, old: list[int]) -> Iterator[str]:
    """Yields a file's lines with their ends; the numbers of those that are Windows-1252 are added to `old`.

    A first line that says the separator is blank.

    Raises:
        DataError: a line holds binary data.
        OSError, UnicodeError: it cannot be read.
    """
    lines = _lines(path, dialect.encoding)
    blank = [("\n", False)] if dialect.stated and next(lines, None) else []
    for number, (line, is_old) in enumerate(chain(blank, lines), start=1):
        if "\0" in line:
            raise DataError(f"{path}: line {number} holds binary data; export the file as CSV UTF-8")
        if is_old:
            old.append(number)
        yield line


def _lines(path: Path, encoding: str) -> Iterator[tuple[str, bool]]:
    """Every line, and whether it is Windows-1252."""
    if not encoding.startswith("utf-8"):
        with TextIOWrapper(_opened(path), newline="", encoding=encoding) as text:
            yield from ((line.removeprefix("\ufeff"), False) for line in text)
        return
    with _opened(path) as handle:
        for number, chunk in enumerate(handle):
            raw = chunk.removeprefix(codecs.BOM_UTF8) if not number else chunk
            for line in raw.splitlines(keepends=True):
                try:
                    yield line.decode(), False
                except UnicodeDecodeError:
                    yield line.decode("cp1252", errors="replace"), True


def _opened(path: Path) -> BinaryIO:
    """A file's bytes; those of one whose name ends in .gz are unpacked, in memory.

    Raises:
        DataError: it unpacks to too much.
        OSError: it cannot be read.
    """
    if path.suffix.lower() != ".gz":
        return path.open("rb")
    try:
        with gzip.open(path) as packed:
            content = packed.read(MAX_UNPACKED + 1)
    except (EOFError, zlib.error) as error:
        raise OSError("it is cut off or damaged") from error
    if len(content) > MAX_UNPACKED:
        raise DataError(f"{path} unpacks to more than {MAX_UNPACKED >> 20} MiB; unpack it yourself")
    return BytesIO(content)
