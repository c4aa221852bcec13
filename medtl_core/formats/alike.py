"""What names of hospitals and classes have in common that a person would take for one another."""

import re
import unicodedata
from contextlib import suppress

from medtl_core.data.names import WORDS, look, plain_name

_YES = {word: name for name in ("yes", "no") for word in WORDS[name]}
#: What stands between words, and between a word and its number.
_BETWEEN, _NUMBERED = re.compile(r"(?<=[^\W\d_])[ ._-]+(?=[^\W\d_])"), re.compile(r"(?<=[^\W\d_])[ ._-](?=\d)")
_UMLAUTS = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue"})


def look_of_name(name: str) -> str:
    """Returns what names of hospitals, or of classes, that look alike have in common.

    Example:
        >>> {*map(look_of_name, ("St.-Anna Köln", "St Anna Koeln.", "St. Anna KÃ¶ln "))}
        {'st anna koeln'}
        >>> look_of_name("Centre-2 Orléans"), look_of_name("'Centre 2 Orleans'")
        ('centre2 orleans', 'centre2 orleans')
    """
    with suppress(UnicodeError):
        name = name.encode("cp1252").decode()  # UTF-8 that was read as Windows-1252
    plain = look(plain_name(name))
    letters = unicodedata.normalize("NFKD", plain.translate(_UMLAUTS))  # accents, which an export may lose
    bare = "".join(sign for sign in letters if not unicodedata.combining(sign)).strip("='\"")
    return _NUMBERED.sub("", _BETWEEN.sub(" ", bare)).rstrip(" .,;:") or plain


def look_of_class(name: str) -> str:
    """Returns the same of classes, of which there may be but one way to say yes, and one to say no."""
    plain = look_of_name(name)
    plain = str(int(plain)) if plain.isdecimal() else plain  # a spreadsheet drops zeros before a number
    return _YES.get(plain, plain)
