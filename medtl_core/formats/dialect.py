"""How a CSV file is written: encoding, separator and decimal mark, as spreadsheets of many countries save them.

All of it follows from the file's first bytes and its header, or for each line from that line: no patient's row changes
how another's is read.
"""

import codecs
import csv
import gzip
import io
import lzma
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, final

from medtl_core.errors import DataError

#: Separators of columns, the usual one first; by all others a number may have a decimal comma.
_SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
_MARKS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
#: Cells by which the right separator is known where two give as many columns.
_KNOWN = {"path", "label", "patient_id", "site", "split"}
#: A packed table that holds more is refused: a small file may unpack to a huge one.
MAX_UNPACKED = 1 << 29
#: Bytes in which the header is looked for first.
_HEADER = 1 << 14
#: How files begin that are no text, and what a person does with them.
_WORKBOOK = "a workbook; in the spreadsheet program save it as CSV UTF-8"
_NO_TEXT = {
    b"PK\x03\x04": _WORKBOOK,
    b"\xd0\xcf\x11\xe0": _WORKBOOK,
    b"\xff\xfe\0\0": "UTF-32; export it as CSV UTF-8",
    b"PAR1": "Parquet; export it as CSV UTF-8",
    b"\x1f\x8b": "packed by gzip; unpack it, or let its name end in .csv.gz",
}
#: How JSON and pages begin, as a server may send them in place of a table.
_OTHER = re.compile(rb"\s*(?:(?P<json>\{[\s\"]|\[[\s{\[])|(?P<page><[a-zA-Z!?])|(?P<pdf>%PDF))")


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
    for begin in filter(first.startswith, _NO_TEXT):
        raise DataError(f"{path} is {_NO_TEXT[begin]}")
    encoding = next((name for mark, name in _MARKS if first.startswith(mark)), "utf-8")
    if encoding == "utf-8" and b"\0" in first:  # UTF-16 without its mark: a header is mostly ASCII
        encoding = "utf-16-be" if first.startswith(b"\0") else "utf-16-le"
    lines = (line for text, _ in _blocks(path, encoding, _HEADER) for line in io.StringIO(text, newline=""))
    line = next((line for line in lines if line.strip(" \t\r\n\ufeff,;|")), "").strip("\r\n\ufeff")
    if line.lower().startswith("sep=") and line[4:5] in _SEPARATORS and len(line) == len("sep=;"):
        return Dialect(encoding, line[4], stated=True)
    cells = {sign: [cell.strip() for cell in next(csv.reader([line], delimiter=sign), [])] for sign in _SEPARATORS}
    return Dialect(encoding, max(cells, key=lambda sign: (len(_KNOWN & {*cells[sign]}), len(cells[sign]))))


def refuse_other(path: Path) -> None:
    """Refuses a text that is no table, however it is called.

    Raises:
        DataError: it is JSON, a page or a PDF.
        OSError: it cannot be read.
    """
    with _opened(path) as handle:
        told = _OTHER.match(handle.read(8))
    if told:
        words = {"json": "JSON", "page": "a page (HTML or XML)", "pdf": "a PDF"}
        raise DataError(f"{path} is {words[str(told.lastgroup)]}, no table; export it as CSV UTF-8 where it was made")


@final
class Lines(Iterator[str]):
    """A file's lines with their ends, to be taken one by one, or all that are left of the block that is in memory.

    A first line that says the separator is blank.

    Attributes:
        number: of the line that was taken last, as an editor has it.
        old: how many lines so far are Windows-1252.

    Raises:
        DataError: when a line that holds binary data is come to.
        OSError, UnicodeError: the file cannot be read.
    """

    def __init__(self, path: Path, dialect: Dialect, size: int) -> None:
        self.number = self.old = 0
        self._path, self._stated = path, dialect.stated
        self._blocks = _blocks(path, dialect.encoding, size)
        self._text, self._size = io.StringIO(), 0

    def __next__(self) -> str:
        if not self.left() and not self.more():
            raise StopIteration
        self.number += 1
        return self._text.readline()

    def left(self) -> bool:
        """Returns whether a line of the block is left."""
        return self._text.tell() < self._size

    def more(self) -> bool:
        """Returns whether there is a next block, and goes on to it."""
        text, old = next(self._blocks, ("", 0))
        if not text:
            return False
        if "\0" in text:
            number = self.number + len([*io.StringIO(text[: text.index("\0") + 1], newline="")])
            raise DataError(f"{self._path}: line {number} holds binary data; export the file as CSV UTF-8")
        if self._stated and not self.number:
            text = "\n" + text[len(io.StringIO(text, newline="").readline()) :]
        self.old += old
        self._text, self._size = io.StringIO(text, newline=""), len(text)
        return True

    def rest(self) -> str:
        """Returns what is left of the block, and does not take it."""
        place = self._text.tell()
        rest = self._text.read()
        self._text.seek(place)
        return rest

    def skip(self, count: int) -> None:
        """Takes what is left of the block: that many lines."""
        self._text.seek(self._size)
        self.number += count


def _blocks(path: Path, encoding: str, size: int) -> Iterator[tuple[str, int]]:
    """Yields texts of whole lines, of about that size, and how many lines of each are Windows-1252."""
    if not encoding.startswith("utf-8"):
        with io.TextIOWrapper(_opened(path), newline="", encoding=encoding) as handle:
            while lines := handle.readlines(size):
                yield "".join(line.removeprefix("\ufeff") for line in lines), 0
        return
    with _opened(path) as handle:
        first = handle.read(len(codecs.BOM_UTF8)) == codecs.BOM_UTF8
        handle.seek(len(codecs.BOM_UTF8) if first else 0)
        while raw := b"".join(handle.readlines(size)):
            try:
                yield raw.decode(), 0
            except UnicodeDecodeError:
                old = [_old(line) for line in raw.splitlines(keepends=True)]
                yield "".join(text for text, _ in old), sum(is_old for _, is_old in old)


def _old(line: bytes) -> tuple[str, bool]:
    """A line as text, and whether it is Windows-1252."""
    try:
        return line.decode(), False
    except UnicodeDecodeError:
        return line.decode("cp1252", errors="replace"), True


def _opened(path: Path) -> BinaryIO:
    """A file's bytes; those of one whose name ends in .gz or .xz are unpacked, in memory.

    Raises:
        DataError: it unpacks to too much.
        OSError: it cannot be read.
    """
    suffix = path.suffix.lower()
    if path.is_fifo() or path.is_char_device():  # which may never end
        raise OSError("it is no ordinary file")
    if suffix not in (".gz", ".xz"):
        return path.open("rb")
    try:
        with gzip.open(path) if suffix == ".gz" else lzma.open(path) as packed:
            content = bytes(packed.read(MAX_UNPACKED + 1))
    except (EOFError, zlib.error, lzma.LZMAError) as error:
        raise OSError("it is cut off or damaged") from error
    if len(content) > MAX_UNPACKED:
        raise DataError(f"{path} unpacks to more than {MAX_UNPACKED >> 20} MiB; unpack it yourself")
    return io.BytesIO(content)
