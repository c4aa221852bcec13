"""A note as text: read from a file, cut into words, and compared with others."""

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medtl_core.data.faults import Faults
from medtl_core.errors import DataError
from medtl_core.formats.table import read_csv, require
from medtl_core.values import Array

#: Signs of a note; a longer one is no note but a file in the wrong place (about 60 printed pages).
LONGEST = 200_000
#: Bytes of a note's file, in an encoding of up to four bytes a sign.
_BYTES = 4 * LONGEST
_MARKS = ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))
_WORD = re.compile(r"[^\W\d_]{2,}")


def read_note(path: Path) -> str:
    """Returns the text of a file: UTF-8, UTF-16 with its mark, or Windows-1252.

    Raises:
        DataError: it is not there, longer than a note can be, or no text.
    """
    try:
        with path.open("rb") as file:
            content = file.read(_BYTES + 1)
    except OSError as error:
        raise DataError(f"the note's file cannot be read: {error.strerror}") from None
    if len(content) > _BYTES:
        raise DataError(f"the note's file is larger than {_BYTES} bytes")
    encoding = next((name for mark, name in _MARKS if content.startswith(mark)), "")
    try:
        text = content.decode(encoding or "utf-8")
    except UnicodeError:
        text = "\0" if encoding else content.decode("cp1252", errors="replace")
    if "\0" in text:
        raise DataError("the note's file is no text")
    return text


def fault_of(note: str) -> str:
    """Returns in words why a note cannot be a case; "" = it can.

    Example:
        >>> fault_of("120/80, 37.2"), fault_of("Lungs clear.")
        ('the note holds no word', '')
    """
    if len(note) > LONGEST:
        return f"the note is longer than {LONGEST} signs"
    return "" if _WORD.search(note) else "the note holds no word"


def words_of(note: str) -> list[str]:
    """Returns the words of a note in their order, in small letters; numbers and single letters are none.

    Example:
        >>> words_of("BP 120/80: Heart-rate NORMAL.")
        ['bp', 'heart', 'rate', 'normal']
    """
    return _WORD.findall(unicodedata.normalize("NFKC", note).lower())


def note_keys(notes: Sequence[str]) -> Array:
    """Returns a name of each note's words, str [n]: equal for notes that differ in numbers, signs and spaces only.

    It names no note by what it says: it is a hash.
    """
    words = (" ".join(words_of(note[:LONGEST])) for note in notes)
    return np.asarray([hashlib.sha256(text.encode()).hexdigest() for text in words], np.str_)


def grouped(patients: Array, keys: Array) -> Array:
    """Returns a name of each case's group, str [n]: patients who share the words of a note count as one.

    Args:
        patients: str [n].
        keys: str [n], from `note_keys`; "" = no note.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    patient, key = (np.unique(names, return_inverse=True)[1] for names in (patients, keys))
    told, count = np.flatnonzero(keys != ""), len(patient)
    shared = coo_array((np.ones(len(told)), (patient[told], count + key[told])), (2 * count, 2 * count))
    group = connected_components(shared, directed=False)[1][patient]
    _, first, number = np.unique(group, return_index=True, return_inverse=True)
    return np.asarray(patients[first][number])


def counted(note: str, width: int) -> tuple[dict[str, float], NDArray[np.int64], NDArray[np.float64]]:
    """Returns each word's weight 1 + log(count), its column of `width` and its sign, both by a hash of the word.

    Feature hashing with signs (Weinberger et al., ICML 2009): no vocabulary is agreed on, and none is learnt.
    """
    weights = {word: 1.0 + float(np.log(count)) for word, count in Counter(words_of(note)).items()}
    hashes = [int.from_bytes(hashlib.sha256(word.encode()).digest()[:8], "big") for word in weights]
    column = np.asarray([value % width for value in hashes], np.int64)
    return weights, column, np.asarray([1.0 if value >> 63 else -1.0 for value in hashes])


def sentences_of(note: str) -> list[str]:
    """Returns the sentences of a note, by full stops and lines.

    Example:
        >>> sentences_of("Lungs clear. Heart 1.5 cm larger\\nNo effusion.")
        ['Lungs clear.', 'Heart 1.5 cm larger', 'No effusion.']
    """
    return [part.strip() for part in re.split(r"(?<=[.!?;])\s+|\n+", note) if part.strip()]


def new_notes(places: Sequence[Path]) -> Iterator[tuple[str, Path, str, str]]:
    """Yields name, folder, text and fault ("" = none) of each note in text files, folders of them and CSV files.

    Raises:
        DataError: a place is not there, holds no note, or is a table without a column `note` or `note_path`.
    """
    for place in places:
        if place.suffix.lower() == ".csv" and place.is_file():
            yield from _of_table(place)
            continue
        files = sorted(place.rglob("*.txt")) if place.is_dir() else [place]
        if not files or not files[0].exists():
            raise DataError(f"{place} is no text file, no folder of them and no CSV file of notes")
        for file in files:
            yield str(file), file.parent, *_of_file(file)


def note_file(name: str, folder: Path) -> Path:
    """Returns the file of a note that a table in a folder names.

    Raises:
        DataError: it does not lie below the folder.
    """
    place = (folder / name).resolve()
    if not name or not place.is_relative_to(folder.resolve()):
        raise DataError("the column 'note_path' names no file below the manifest's folder")
    return place


def _of_table(place: Path) -> Iterator[tuple[str, Path, str, str]]:
    """The notes of a CSV file, or of the files that it names, row by row; an empty cell is an empty note."""
    table = read_csv(place, Faults())
    files = "note" not in table.columns and "note_path" in table.columns
    column = "note_path" if files else "note"
    require(table, [column])
    for row, (cell, whole) in enumerate(zip(table.columns[column], table.whole, strict=True)):
        fault = "" if whole else "the row is longer or shorter than the header"
        try:
            note, folder = (cell, place.parent) if not (files and cell) else _named(cell, place.parent)
        except DataError as error:
            note, folder, fault = "", place.parent, str(error)
        yield table.faults.place(row), folder, note, fault


def _named(name: str, folder: Path) -> tuple[str, Path]:
    """The text of a file that a table names, and its folder."""
    file = note_file(name, folder)
    return read_note(file), file.parent


def _of_file(file: Path) -> tuple[str, str]:
    """The text of a file, and what is wrong with it."""
    try:
        return read_note(file), ""
    except DataError as error:
        return "", str(error)
