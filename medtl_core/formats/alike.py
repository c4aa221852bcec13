"""What names of hospitals and classes have in common that a person would take for one another."""

import re
import unicodedata
from collections.abc import Collection
from contextlib import suppress

from medtl_core.data.names import WORDS, look, plain_name

#: A whole number; what stands between words, and between a word and its number.
_WHOLE = re.compile(r"[+-]?\d+(\.0*)?")
_BETWEEN, _NUMBERED = re.compile(r"(?<=[^\W\d_])[ ._-]+(?=[^\W\d_])"), re.compile(r"(?<=[^\W\d_])[ ._-](?=\d)")
#: What many tables write into a column of codes where nobody knows or nobody asked; larger than any code beside it.
_NINES = re.compile(r"9+|8+|9+[78]")
#: What is said of a class that is such a code, and the remedy.
CODE = ("seems to stand for 'not known'", "empty its cells; if it is a class, state all of them in task.json")
#: Umlauts as they are written without, and as what Turkish letters are read where Windows-1254 is taken for 1252.
_UMLAUTS = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "ý": "i", "þ": "s", "ð": "g"})


def look_of_name(name: str) -> str:
    """Returns what names of hospitals, or of classes, that look alike have in common.

    Example:
        >>> {*map(look_of_name, ("St.-Anna Köln", "St Anna Koeln.", "St. Anna KÃ¶ln "))}
        {'st anna koeln'}
        >>> look_of_name("Centre-2 Orléans"), look_of_name("'Centre 2 Orleans'")
        ('centre2 orleans', 'centre2 orleans')
        >>> look_of_name("Ýzmir Þiþli") == look_of_name("\u0130zmir \u015ei\u015fli")
        True
    """
    with suppress(UnicodeError):
        name = name.encode("cp1252").decode()  # UTF-8 that was read as Windows-1252
    plain = look(plain_name(name))
    letters = unicodedata.normalize("NFKD", plain.translate(_UMLAUTS))  # accents, which an export may lose
    bare = "".join(sign for sign in letters if not unicodedata.combining(sign)).strip("='\"")
    return _NUMBERED.sub("", _BETWEEN.sub(" ", bare)).rstrip(" .,;:") or plain


def look_of_class(name: str) -> str:
    """Returns the same of classes, of which there may be but one way to say yes, and one to say no.

    Example:
        >>> [look_of_class(name) for name in ("S\u00ed", "\u0414\u0430", "n\u00e9gatif", "EVET", "01")]
        ['yes', 'yes', 'no', 'yes', 'yes']
    """
    plain = look_of_name(name)
    plain = str(int(plain)) if plain.isdecimal() else plain  # a spreadsheet drops zeros before a number
    return _YES.get(plain, plain)


_YES = {look_of_name(word): name for name in ("yes", "no") for word in WORDS[name]}


def codes_for_missing(classes: Collection[str]) -> list[str]:
    """Returns classes that seem to say that nobody knows: numbers below 0, nines and eights far above the others.

    Example:
        >>> codes_for_missing(["0", "1", "9"]), codes_for_missing(["-99", "0", "1"]), codes_for_missing(["7", "8", "9"])
        (['9'], ['-99'], [])
    """
    whole = {name: float(name) for name in classes if _WHOLE.fullmatch(name)}
    if len(whole) < len(classes):
        return []
    odd = {name for name, value in whole.items() if value < 0 or _NINES.fullmatch(f"{value:.0f}")}
    usual = {value for name, value in whole.items() if name not in odd}
    high = [value for name, value in whole.items() if name in odd and value >= 0]
    if high and min(high) <= max(usual, default=0) + 1:
        odd = {name for name in odd if whole[name] < 0}
    return sorted(odd) if len(usual) > 1 else []
