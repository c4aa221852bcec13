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
_FORMS: Mapping[str, tuple[str, ...]] = {
    "names": (
        "names behind a title or the word name",
        r"\b(?:Mr|Mrs|Ms|Miss|Dr|Prof|Herrn?|Frau|Sr|Sra|Mme)\b\.?\s+(?:[A-Z]\.\s*)*[A-Z][a-zà-ÿ'-]*[a-zà-ÿ]{2}",
        r"\b(?:[Pp]atient(?:'s)? [Nn]ame|PATIENT NAME|Name|NAME)\s*[:=]\s*[A-Z][A-Za-zà-ÿ'-]*[a-zà-ÿ]{2}",
    ),
    "birth": ("dates of birth", rf"(?i:{_BORN}\s*[:=]?\s*(?:is\s+|was\s+)?{_DATE})"),
    "phone": (
        "phone numbers",
        r"(?i:\b(?:phone|tel(?:ephone|efon|\.)?|mobile|fax|cell)\b\W{0,3}(?:(?:no|number|nr)\W{0,3})?\+?\d[\d\s()/.-]{5,}\d)",
        r"(?<![\d.])\+\d{1,3}[\s(/-]*\d[\d\s()/-]{6,}\d|(?<![\d-])\(?\d{3}\)?[\s.-]\d{3}[.-]\d{4}(?![\d-])",
    ),
    "mail": ("e-mail addresses", r"[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63})+"),
    "numbers": (
        "numbers of a patient, a record or an insurance",
        r"(?i:\b(?:mrn|medical record|patient (?=id|no|number)|record (?=no|number)|insurance|policy|ssn"
        rf"|social security|nhs|versicherten|fallnummer|patientennummer)\b\s*{_NUMBER}(?=[A-Z-]*\d)[A-Z0-9-]{{4,}})",
        r"(?<![\d-])\d{3}-\d{2}-\d{4}(?![\d-])",
    ),
    "address": (
        "addresses",
        rf"\b\d{{1,5}}\s+(?:[A-Z][a-z]+\s){{1,3}}(?i:{_STREET})(?=\W|$)|\b(?:P\.?\s?O\.?\s?Box)\s+\d+",
        r"\b[A-ZÄÖÜ][a-zäöüß]{2,}(?:stra(?:ß|ss)e|weg|platz)\s+\d{1,4}\b",
    ),
}
_RULES = {kind: (told, re.compile("|".join(forms))) for kind, (told, *forms) in _FORMS.items()}
#: What a person can do about a note that is refused.
REMEDY = f"de-identify the notes first, or permit it in {PERMITS} beside them, permit = [...] of {', '.join(_RULES)}"


def refusals(note: str, permitted: frozenset[str] = frozenset()) -> list[str]:
    """Returns in words what a hospital does not permit and the rules find, a cause each; nothing of it is quoted.

    Example:
        >>> refusals("Mr. Miller, born 3/4/1950, was seen."), refusals("Mr. XXXX was seen by Dr. [NAME].")
        (['the note holds names behind a title or the word name', 'the note holds dates of birth'], [])
    """
    rules = (rule for kind, rule in _RULES.items() if kind not in permitted)
    return [f"the note holds {told}" for told, pattern in rules if pattern.search(note)]


def permitted_in(folder: Path) -> frozenset[str]:
    """Returns the kinds of identity that a hospital permits in the notes of a folder; see `dicom_identity.permits`."""
    return permits(folder, PERMITS, tuple(_RULES))
