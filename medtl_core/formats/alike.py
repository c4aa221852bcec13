"""What names of hospitals and classes have in common that a person would take for one another."""

import re
from contextlib import suppress

from medtl_core.data.names import WORDS, look, plain_name

_YES = {word: name for name in ("yes", "no") for word in WORDS[name]}
#: What stands between words.
_BETWEEN = re.compile(r"(?<=[^\W\d_])[ ._-]+(?=[^\W\d_])")
_UMLAUTS = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue"})


def look_of_name(name: str) -> str:
    """Returns what names of hospitals, or of classes, that look alike have in common.

    Example:
        >>> {*map(look_of_name, ("St.-Anna Köln", "St Anna Koeln.", "St. Anna KÃ¶ln "))}
        {'st anna koeln'}
    """
    with suppress(UnicodeError):
        name = name.encode("cp1252").decode()  # UTF-8 that was read as Windows-1252
    plain = look(plain_name(name))
    return _BETWEEN.sub(" ", plain.translate(_UMLAUTS)).rstrip(" .,;:") or plain


def look_of_class(name: str) -> str:
    """Returns the same of classes, of which there may be but one way to say yes, and one to say no."""
    plain = look_of_name(name)
    return _YES.get(plain, plain)
