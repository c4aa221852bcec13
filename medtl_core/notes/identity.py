"""Whose a note is: looked for by rules, refused unless the hospital permits it, never quoted.

The rules find what stands behind a title, a word such as "phone" or "MRN", or in the form of an address or number. They
miss names without such a sign, so a note that passes is not thereby de-identified.
"""

import re
from collections.abc import Mapping
from pathlib import Path

from medtl_core.formats.dicom_identity import permits

#: The hospital's word on its own notes, in their folder or one above: `permit = [...]`.
PERMITS = "notes.toml"
_MONTH = r"(?:jan|feb|m[aä]r|apr|ma[iy]|ju[nl]|aug|sep|o[ck]t|nov|de[cz])[a-zä]*"
_WRITTEN = rf"\d{{1,2}}\.?\s+{_MONTH}\.?,?\s+\d{{4}}|{_MONTH}\.?\s+\d{{1,2}},?\s+\d{{4}}"
_DATE = rf"(?:\d{{1,4}}[./-]\d{{1,2}}[./-]\d{{1,4}}|{_WRITTEN})"
_BORN = r"\b(?:d\.?o\.?b\.?|date of birth|birth\s?date|born(?:\s+on)?|geb(?:oren|\.)?(?:\s+am)?|geburtsdatum)"
_NUMBER = r"(?:no\.?|number|nr\.?|#|id)?\s*[:#=]?\s*"
_STREET = r"(?:street|st\.|avenue|ave\.?|road|rd\.|lane|drive|boulevard|blvd\.?)"
#: Kind of identity -> what a refusal calls it, and what it looks like. What de-identification leaves in a name's place
#: (XXXX, ABCD, [NAME], ___) is no name: a name has one capital, and then small letters.
_RULES: Mapping[str, tuple[str, re.Pattern[str]]] = {
    "names": (
        "names behind a title or the word name",
        re.compile(
            r"\b(?:Mr|Mrs|Ms|Miss|Dr|Prof|Herrn?|Frau|Sr|Sra|Mme)\b\.?\s+(?:[A-Z]\.\s*)*[A-Z][a-zà-ÿ'-]*[a-zà-ÿ]{2}"
            r"|\b(?:[Pp]atient(?:'s)? [Nn]ame|PATIENT NAME|Name|NAME)\s*[:=]\s*[A-Z][A-Za-zà-ÿ'-]*[a-zà-ÿ]{2}"
        ),
    ),
    "birth": ("dates of birth", re.compile(rf"{_BORN}\s*[:=]?\s*(?:is\s+|was\s+)?{_DATE}", re.IGNORECASE)),
    "phone": (
        "phone numbers",
        re.compile(
            r"\b(?:phone|tel(?:ephone|efon|\.)?|mobile|fax|cell)\b\W{0,3}(?:(?:no|number|nr)\W{0,3})?\+?\d[\d\s()/.-]{5,}\d"
            r"|(?<![\d.])\+\d{1,3}[\s(/-]*\d[\d\s()/-]{6,}\d|(?<![\d-])\(?\d{3}\)?[\s.-]\d{3}[.-]\d{4}(?![\d-])",
            re.IGNORECASE,
        ),
    ),
    "mail": ("e-mail addresses", re.compile(r"[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63})+")),
    "numbers": (
        "numbers of a patient, a record or an insurance",
        re.compile(
            r"\b(?:mrn|medical record|patient (?=id|no|number)|record (?=no|number)|insurance|policy|ssn"
            rf"|social security|nhs|versicherten|fallnummer|patientennummer)\b\s*{_NUMBER}(?=[A-Z-]*\d)[A-Z0-9-]{{4,}}"
            r"|(?<![\d-])\d{3}-\d{2}-\d{4}(?![\d-])",
            re.IGNORECASE,
        ),
    ),
    "address": (
        "addresses",
        re.compile(
            rf"\b\d{{1,5}}\s+(?:[A-Z][a-z]+\s){{1,3}}(?i:{_STREET})(?=\W|$)|\b[A-ZÄÖÜ][a-zäöüß]{{2,}}(?:stra(?:ß|ss)e|weg|platz)"
            r"\s+\d{1,4}\b|\b(?:P\.?\s?O\.?\s?Box)\s+\d+"
        ),
    ),
}
#: Kind of identity -> what a refusal calls it.
KINDS: Mapping[str, str] = {kind: told for kind, (told, _) in _RULES.items()}


def identities(note: str) -> set[str]:
    """Returns the `KINDS` of identity that the rules find in a note; nothing of it is returned.

    Example:
        >>> sorted(identities("Mr. Miller, born 3/4/1950, was seen.")), identities("Mr. XXXX was seen by Dr. [NAME].")
        (['birth', 'names'], set())
    """
    return {kind for kind, (_, pattern) in _RULES.items() if pattern.search(note)}


def refusals(note: str, permitted: frozenset[str]) -> list[str]:
    """Returns in words what a hospital does not permit and the rules find, a cause each."""
    found = identities(note) - permitted
    return [f"the note holds {told}" for kind, told in KINDS.items() if kind in found]


def permitted_in(folder: Path) -> frozenset[str]:
    """Returns the kinds of identity that a hospital permits in the notes of a folder; see `dicom_identity.permits`."""
    return permits(folder, PERMITS, tuple(KINDS))


def remedy() -> str:
    """Returns what a person can do about a note that is refused."""
    return f"de-identify the notes first, or permit it in {PERMITS} beside them, permit = [...] of {', '.join(KINDS)}"
