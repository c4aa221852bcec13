"""A note as text: read from a file, cut into words, and compared with others."""

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from medtl_core.config import Settings
from medtl_core.data.names import is_missing
from medtl_core.errors import DataError
from medtl_core.formats.dialect import Lines, read_dialect
from medtl_core.formats.table import LOST
from medtl_core.values import Array, digest

#: Signs of a note, about 60 printed pages; a longer one is a file in the wrong place. Bytes, of up to four a sign.
LONGEST, _BYTES = 200_000, 800_000
#: How a text begins that is no plain one: PDF, RTF, HTML, XML, JSON, HL7, JPEG, and what Git keeps in place of a large
#: file. Signs to each of which one may be of a letter that an encoding lost.
_OTHER = (
    "%pdf",
    "{\\rtf",
    "<html",
    "<!doctype",
    "<?xml",
    '{"',
    "msh|",
    "\u00ff\u00f8\u00ff",
    "version https://git-lfs",
)
_LOST_OF = 100
_WORD = re.compile(r"[^\W\d_]{2,}")


def read_note(path: Path) -> str:
    """Returns the text of a file in any encoding that a table may have: UTF-8, UTF-16 or Windows-1252.

    Raises:
        DataError: it is not there, longer than a note can be, or no text.
    """
    try:
        large = path.stat().st_size > _BYTES
        text = "" if large else "".join(Lines(path, read_dialect(path), _BYTES))
    except OSError as error:
        raise DataError(f"the note's file cannot be read: {error.strerror}") from None
    except (UnicodeError, DataError):
        raise DataError("the note's file is no text") from None
    if large:
        raise DataError(f"the note's file is larger than {_BYTES} bytes")
    if text.lstrip().lower().startswith(_OTHER):
        raise DataError(
            "the note's file is a document, a page, a picture or a pointer to a file; save it as plain text"
        )
    return text


def named_note(name: str, folder: Path, *, gaps: bool) -> str:
    """Returns the text of the file below a folder that a manifest in it names; with `gaps` it may name none."""
    if not name and gaps:
        return ""
    if not name or not (place := (folder / name).resolve()).is_relative_to(folder.resolve()):
        raise DataError("the column 'note_path' names no file below the manifest's folder")
    return read_note(place)


def fault_of(note: str) -> str:
    """Returns in words why a note cannot be a case; "" = it can."""
    if len(note) > LONGEST:
        return f"the note is longer than {LONGEST} signs"
    if note.lstrip().lower().startswith(_OTHER):
        return "the note is a document, a page or a message, and no plain text"
    if len(LOST.findall(note)) * _LOST_OF > len(note):
        return "the note holds letters that were lost: export it anew as UTF-8"
    return "" if _WORD.search(note) and not is_missing(note) else "the note holds no word"


def words_of(note: str) -> list[str]:
    """Returns the words of a note in their order, in small letters; numbers and single letters are none.

    Example:
        >>> words_of("BP 120/80: Heart-rate NORMAL.")
        ['bp', 'heart', 'rate', 'normal']
    """
    return _WORD.findall(unicodedata.normalize("NFKC", note).lower())


def note_keys(notes: Sequence[str]) -> Array:
    """Returns a hash of each note's words, str [n]: equal for notes that differ in numbers, signs and spaces only."""
    words = (" ".join(words_of(note[:LONGEST])) for note in notes)
    return np.asarray([hashlib.sha256(text.encode()).hexdigest() for text in words], np.str_)


def grouped(patients: Array, keys: Array) -> Array:
    """Returns a name of each case's group, str [n]: patients who share the words of a note, by `note_keys`, are one."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    patient, key = (np.unique(names, return_inverse=True)[1] for names in (patients, keys))
    told, count = np.flatnonzero(keys != ""), len(patient)
    shared = coo_array((np.ones(len(told)), (patient[told], count + key[told])), (2 * count, 2 * count))
    group = connected_components(shared, directed=False)[1][patient]
    _, first, number = np.unique(group, return_index=True, return_inverse=True)
    return np.asarray(patients[first][number])


class HashedWords:
    """Every word adds 1 + log(count) to one of `width` columns, with a sign; the row is of length sqrt(width).

    Column and sign are a hash's (Weinberger et al., ICML 2009): no vocabulary is agreed on, and none is learnt.
    """

    width, groups = 1024, ("words",)
    #: Names how words are cut and counted.
    sha = digest({"words": 1, "width": width})

    def features(self, note: str, settings: Settings) -> Array:
        """Returns float32 [width]."""
        _, column, shares = self._shares(note)
        return np.bincount(column, weights=shares, minlength=self.width).astype(np.float32)

    def parts(self, note: str, weight: Array, settings: Settings) -> list[tuple[str, float]]:
        """Returns what each word adds to a weighted sum of the features, exactly."""
        words, column, shares = self._shares(note)
        return [*zip(words, (shares * weight[column]).tolist(), strict=True)]

    def _shares(self, note: str) -> tuple[list[str], Array, Array]:
        """The words of a note, the column of each, and what it adds to it."""
        counts = Counter(words_of(note))
        hashes = [int.from_bytes(hashlib.sha256(word.encode()).digest()[:8], "big") for word in counts]
        column = np.asarray([value % self.width for value in hashes], np.int64)
        shares = np.asarray([1.0 if value >> 63 else -1.0 for value in hashes]) * (1.0 + np.log([*counts.values()]))
        length = float(np.linalg.norm(np.bincount(column, weights=shares, minlength=self.width)))
        return [*counts], column, shares * np.sqrt(self.width) / max(length, 1e-12)
