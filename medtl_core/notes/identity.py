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
_BORN = (
    r"\b(?:d\.?o\.?b\.?|date of birth|birth\s?date|born(?:\s+on)?|geb(?:oren|\.)?(?:\s+(?:am|op))?"
    r"|geboortedatum|geb(?:urts|\.)?-?datum|n[ée]e?\s+le|date de naissance|fecha de nac(?:imiento|\.)"
    r"|nacid[oa](?:\s+el)?|nat[oa]\s+il|data (?:di|de) nasc(?:ita|imento)|nascid[oa]\s+(?:a|em)"
    r"|f[öø]d(?:t|d|elsedatum|elsdato)?|data urodzenia|ur\.)"
)
_NUMBER = r"(?:no\.?|number|nr\.?|#|id)?\s*[:#=]?\s*"
_CAPITAL, _SMALL = "A-ZÀ-ÖØ-ÞĀ-ŽΆ-ΩЀ-Я", "a-zß-öø-ÿĀ-žά-ώа-џ"
_NAME = rf"(?:Ma?c|[DLO]['\u2019])?[{_CAPITAL}][{_SMALL}'-]*[{_SMALL}]{{2}}"
#: Two words in capitals, as a form has them; one alone may be what stands in a name's place.
_SHOUTED = (
    r"(?!X|ABCD|NAME|ANON|REDACT|REMOVED|DELETED|DE-?ID)[A-ZÀ-ÖØ-Þ'-]{2,},?\s"
    rf"(?:(?!X)[A-ZÀ-ÖØ-Þ'-]{{2,}}|{_NAME})"
)
_FIELD = (
    r"(?i:(?:(?:sur|last|first|family|given|full|patient|patient's)[ -]?)?name|(?:vor|nach|familien|geburts)name"
    r"|name,\s?vorname|nom|pr[ée]nom|nombres?|apellidos?|cognome|nome|sobrenome|(?:voor|achter)?naam|navn|soyad\u0131"
    r"|(?:f[öo]r|efter)?namn|imi[ęe]|nazwisko)"
)
_STREET = r"(?:street|st\.|avenue|ave\.?|road|rd\.|lane|drive|boulevard|blvd\.?)"
#: Kind of identity -> what a refusal calls it, and what it looks like. What de-identification leaves in a name's place
#: (XXXX, ABCD, [NAME], ___) is no name: a name has one capital, and then small letters.
_FORMS: Mapping[str, tuple[str, ...]] = {
    "names": (
        "names behind a title or the word name",
        r"\b(?:Mr|Mrs|Ms|Miss|Dr|Prof|Herrn?|Frau|Sra?|Mme|Madame|Monsieur|Sig|Signora?|Señora?|Dhr|Mevr)\b\.?\s+"
        rf"(?:(?:Dr|Prof|med|dent)\.?\s+){{0,4}}(?:[{_CAPITAL}]\.\s*)*{_NAME}",
        rf"\b{_FIELD}\s*[:=]\s*(?:{_NAME}|{_SHOUTED})",
        rf"\bPat(?:\.|ient|ientin|iënt)?\s?[:=]\s*{_NAME}(?:,\s?{_NAME}|\s{_NAME}\s*(?:$|\n|,?\s*(?:\*|geb|born|DOB|\d)))",
        rf"\b(?:Paciente|Paziente)\s?[:=]\s*{_NAME},?\s{_NAME}",
    ),
    "birth": ("dates of birth", rf"(?i:{_BORN}\s*[:=]?\s*(?:is\s+|was\s+)?{_DATE})", rf"(?<=\S)[ \t]*\*{_DATE}"),
    "phone": (
        "phone numbers",
        r"(?i:\b(?:phone|t[eé]l(?:[eé](?:ph|f)o?one?|[eé]fono|\.)?|mobile?|handy|fax|cell)\b\W{0,3}(?:(?:no|number|nr)\W{0,3})?"
        r"\+?\d[\d\s()/.-]{5,}\d)",
        r"(?<![\d.])\+\d{1,3}[\s(/-]*\d[\d\s()/-]{6,}\d|(?<![\d-])\(?\d{3}\)?[\s.-]\d{3}[.-]\d{4}(?![\d-])",
    ),
    "mail": ("e-mail addresses", r"[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63})+"),
    "numbers": (
        "numbers of a patient, a record or an insurance",
        r"(?i:\b(?:mrn|medical record|patient (?=id|no|number)|record (?=no|number)|insurance|policy"
        r"|ssn|social security|nhs|(?:versicherten|fall|patienten|pat\.|aufnahme)-?\s?(?:nr\.?|nummer|id)|versicherten"
        rf"|kvnr)(?!\w)\s*{_NUMBER}(?=[A-Z-]*\d)[A-Z0-9-]{{4,}})",
        r"(?<![\d-])\d{3}-\d{2}-\d{4}(?![\d-])|(?<!\d)756\.\d{4}\.\d{4}\.\d\d(?!\d)|\bNHS\b\D{0,12}\d{3} \d{3} \d{4}",
    ),
    "address": (
        "addresses",
        rf"\b\d{{1,5}}\s+(?:[A-Z][a-z]+\s){{1,3}}(?i:{_STREET})(?=\W|$)|\b(?:P\.?\s?O\.?\s?Box)\s+\d+",
        r"\b[A-ZÄÖÜ][a-zäöüß]{2,}(?:stra(?:ß|ss)e|str\.|weg|platz)\s+\d{1,4}\b",
        rf"\b\d{{1,4}},?\s(?i:rue|boulevard|impasse|chemin|quai)\s(?:\w+\s){{0,3}}[{_CAPITAL}]",
        rf"\bCalle\s{_NAME},?\s\d",
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
