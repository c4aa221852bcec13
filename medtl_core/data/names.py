"""Names of classes, sites and patients in the one form in which they are compared.

Two cells that a person cannot tell apart are one name: Unicode's composed form (NFC), without invisible signs, with one
plain space between words. Names that differ only in case, compatibility forms, letters of another script, kinds of
dashes or a trailing ".0" look alike. Patients' ids that do, or differ only in leading zeros, are one patient. Classes
and sites that do, or nearly do (see `formats.alike`), are refused.
"""

import re
import tomllib
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable
from importlib.resources import files

import numpy as np
from numpy.typing import NDArray

from medtl_core.values import Array

#: Words and signs of other people's files.
WORDS = tomllib.loads((files("medtl_core.data") / "words.toml").read_text(encoding="utf-8"))
#: What a cell says, whatever its case and spaces, whose value is missing.
MISSING = frozenset(WORDS["missing"])
_LIKE = str.maketrans(dict(pair for signs in WORDS["signs"] for pair in zip(*signs, strict=True)))
_NUMBER = re.compile(r"\+?(\d+)(?:[.,]0*)?")
#: Signs that show as nothing, or as a space, beside those of format and control.
_UNSEEN = re.compile("[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180e\u2800\u3164\ufe00-\ufe0f\uffa0]")


def missing(values: Array) -> NDArray[np.bool_]:
    """Returns which cells (str [n]) are empty or say that the value is missing."""
    return np.asarray([is_missing(value) for value in values.tolist()], dtype=bool)


def is_missing(text: str) -> bool:
    """Returns whether a cell is empty or says that the value is missing.

    Example:
        >>> is_missing("k. A."), is_missing("Keine Angabe"), is_missing("nonsense")
        (True, True, False)
    """
    return text.lower().replace(" ", "") in MISSING


def plain_name(text: str) -> str:
    """Returns a name without what nobody sees.

    Example:
        >>> plain_name("Klinikum\\u00a0 Su\\u0308d\\u200b ")
        'Klinikum Süd'
    """
    if text.isascii() and text.isprintable() and "  " not in text:
        return text.strip()
    shown = _UNSEEN.sub("", unicodedata.normalize("NFC", text))
    signs = (sign for sign in shown if sign.isspace() or unicodedata.category(sign) not in ("Cf", "Cc"))
    return " ".join("".join(signs).split())


def plain_names(values: Array, change: Callable[[str], str] = plain_name) -> Array:
    """Returns every name (str [n]) in that form, or changed another way; equal ones are changed once."""
    cells = values.tolist()
    names = {cell: change(cell) for cell in {*cells}}
    return np.asarray([names[cell] for cell in cells], dtype=np.str_)


def hospital_name(text: str) -> str:
    """Returns the name of a hospital as it may stand on the wire and in places: a slash becomes a dash."""
    return plain_name(text).replace("/", "-").replace("\\", "-")


def hospital_names(values: Array) -> Array:
    """Returns every name (str [n]) in that form."""
    return plain_names(values, hospital_name)


def look(name: str) -> str:
    """Returns what names that look alike have in common.

    Example:
        >>> look("Normal") == look("normal"), look("7") == look("+7.0"), look("1.5") == look("1.50")
        (True, True, False)
    """
    folded = name.lower() if name.isascii() else unicodedata.normalize("NFKC", name).translate(_LIKE).casefold()
    number = _NUMBER.fullmatch(folded)
    return number[1] if number else folded


def _look_of_id(name: str) -> str:
    look_alike = look(name.strip("=\"'"))  # as a spreadsheet keeps a number as text: ="007" or '007
    return look_alike.lstrip("0") or "0" if look_alike.isdecimal() else look_alike


def alike(names: Iterable[str], of: Callable[[str], str] = look) -> list[tuple[str, ...]]:
    """Returns the groups of different names that look alike."""
    first, groups = dict[str, str](), defaultdict[str, set[str]](set)
    for name in names:
        if (other := first.setdefault(of(name), name)) != name:
            groups[of(name)] |= {other, name}
    return [tuple(sorted(group)) for _, group in sorted(groups.items())]


def one_patient_each(values: Array) -> Array:
    """Returns ids (str [n]) of which those that look alike are one, spelt as the first of them in order.

    Guarantee:
        Unit: patient. What a row becomes hangs on the rows of its own patient only: those whose ids look alike.
    """
    spelt = {name: group[0] for group in alike({*values.tolist()}, _look_of_id) for name in group}
    return plain_names(values, lambda name: spelt.get(name, name)) if spelt else values
