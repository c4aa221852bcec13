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
#: Behind a word of birth a month may be called in any language.
_WRITTEN = (
    rf"\d{{1,2}}(?:\.|st|nd|rd|th|er)?[\s-]+(?:de\s+)?(?!week|day|month|year|hour|woch|tag|ssw)[^\W\d_]{{3,10}}\.?"
    rf"[\s,-]+(?:de\s+)?\d{{2,4}}|{_MONTH}\.?\s+\d{{1,2}}(?:st|nd|rd|th)?,?\s+\d{{4}}"
)
_DAY = r"\d{1,4}[./-]\d{1,2}[./-]\d{1,4}"
_DATE = rf"(?:{_DAY}|{_WRITTEN})"
_BORN = (
    r"\b(?:d\.?o\.?b\.?|date of birth|birth\s?date|born(?:\s+on)?|geb(?:oren|\.)?(?:\s+(?:am|op))?"
    r"|geboortedatum|geb(?:urts|\.)?-?datum|n[ée]e?\s+le|date de naissance|fecha de nac(?:imiento|\.)"
    r"|nacid[oa](?:\s+el)?|nat[oa]\s+(?:a\s\w+\s)?il|data (?:di|de) nasc(?:ita|imento)|nascid[oa]\s+(?:a|em)"
    r"|f[öø]d(?:t|d|elsedatum|elsdato)?|data urodzenia|ur\.|дата рождения"
    r"|doğum tarihi|ημ(?:ερομηνία|\.)\s?γέννησης|[df]\.n\.)"
)
_NUMBER = r"(?:no\.?|number|nr\.?|#|id)?\s*[:#=]?\s*"
_CAPITAL, _SMALL = "A-ZÀ-ÖØ-ÞĀ-ŽΆ-ΩЀ-Я", "a-zß-öø-ÿĀ-žά-ώа-џ"
_NAME = rf"(?:Ma?c|[DLO]['\u2019])?[{_CAPITAL}][{_SMALL}'-]*[{_SMALL}]{{2}}(?:-[{_CAPITAL}][{_SMALL}]+)?"
_INITIALS, _OF = rf"(?:[{_CAPITAL}]\.\s*)", r"(?:(?:v[ao]n|zur?|de[lnr]?|del?la|d[aio]s?|l[aeo]s?|te[nr])\s+)"
#: Two words in capitals, as a form has them; one alone may be what stands in a name's place.
_LOUD = r"(?!X|ABCD|NAME|ANON|REDACT|REMOVED|DELETED|DE-?ID)[A-ZÀ-ÖØ-Þ'-]{2,30}"
_SHOUTED = rf"{_LOUD},?\s(?:(?!X)[A-ZÀ-ÖØ-Þ'-]{{2,}}|{_NAME})"
_FIELD = (
    r"(?i:(?:(?:sur|last|first|family|given|full|patient|patient's)[ -]?)?name|(?:vor|nach|familien|geburts)name"
    r"|name,\s?vorname|nom|pr[ée]nom|nombres?|apellidos?|cognome|nome|sobrenome|(?:voor|achter)?naam|navn|soyad\u0131"
    r"|(?:f[öo]r|efter)?namn|imi[ęe]|nazwisko|фио|фамилия|имя"
    r"|ad\u0131(?: soyad\u0131)?|(?:ονοματ)?επώνυμο|όνομα)"
)
_STREET = r"(?:street|st\.|avenue|ave\.?|road|rd\.|lane|drive|court|crescent|terrace|boulevard|blvd\.?)"
#: Kind of identity -> what a refusal calls it, and what it looks like. What de-identification leaves in a name's place
#: (XXXX, ABCD, [NAME], ___) is no name: a name has one capital, and then small letters.
_FORMS: Mapping[str, tuple[str, ...]] = {
    "names": (
        "names behind a title or the word name",
        r"\b(?:Mr|Mrs|Ms|Mx|Miss|Drs?|Prof|Herrn?|Hr|(?<!\d\s)(?<!\d)Fr(?=\.)|Frau|Fru|Sra?|Mme|Madame|Monsieur|Sig|Signora?"
        r"|Señora?|Do[nñ]a|Dña|Dott(?:\.ssa)?|Dhr|Mevr|Pani|Say\u0131n)\b\.?\s+"
        rf"(?:(?:[Dd]r|Prof|med|dent)\.?\s+){{0,4}}{_INITIALS}*{_OF}{{0,3}}{_NAME}",
        rf"\b(?:DR\.|MRS?\.|Drs?\.|Mrs?\.|Herrn?|Frau)\s+{_INITIALS}*(?!ABC|NOS|YYY|ZZZ){_LOUD}(?<=[^\W\d_]{{4}})(?![\w-])",
        rf"(?:\b{_NAME},\s|\b{_LOUD},?\s){_NAME}[,\s(]*(?i:{_BORN})",
        rf"\b[Pp](?:a?t|atient)\b\.?\s*[:=]?\s*{_INITIALS}+{_NAME}",
        rf"\b(?i:dictated|signed|transcribed)\s(?i:by)\b[:\s]*(?:{_INITIALS}+|{_NAME}\s){_INITIALS}*{_NAME}",
        r"\b[A-Z'-]{2,30}\^[A-Z]{2}",
        rf"\b{_NAME}\s{_INITIALS}*{_NAME},\s*(?:M\.?D|D\.?O|RN|NP|PA-C|MBBS)\b\.?(?=\s*(?:$|[\n,;]))",
        rf"\b{_FIELD}\s*[:=]\s*(?:{_NAME}|{_SHOUTED})",
        rf"\bPat(?:\.|ient|ientin|iënt)?\s?[:=]\s*{_NAME}(?:,\s?{_NAME}|\s{_NAME}\s*(?:$|\n|,?\s*(?:\*|geb|born|DOB|\d)))",
        rf"\b(?:Paciente|Paziente|Pacjent(?:ka)?|Hasta|Пациент(?:ка)?|Ασθενής)\s?[:=]\s*(?:{_NAME},?\s{_NAME}|{_SHOUTED})",
    ),
    "birth": ("dates of birth", rf"(?i:{_BORN}[\s:=(]*(?:is\s+|was\s+)?{_DATE})", rf"(?<=\S)[ \t]*\*{_DAY}"),
    "phone": (
        "phone numbers",
        r"(?i:\b(?:phone|t[eé]l(?:[eé](?:ph|f)o?one?|[eé]fono|\.)?|tlf|mobile?|handy|rufnummer|fax|cell)\b\W{0,3}(?:(?:no|number|nr)\W{0,3})?"
        r"\+?\d[\d\s()/.-]{5,}\d)",
        r"(?<![\d.])(?:\+|00 ?)\d{1,3}[\s(/-]*\d[\d\s()/-]{6,}\d",
        r"(?<![\d-])(?:\(\d{3}\)\s?|\d{3}[\s.-])\d{3}[.-]\d{4}(?![\d-])|\(0\d{1,4}\)\s?\d{3,4}\s?\d{3,4}",
        r"(?<![\d.,])0\d(?:[ .]\d\d){4}(?![\d.])|(?<![\d.,])0\d{2,4}[/ -]\d{5,8}(?![\d.])",
        r"(?i:\bph[.:]\s*)\(?\d{3}(?:\)\s?|[\s-])\d{3,4}",
    ),
    "mail": ("e-mail addresses", r"[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63})+"),
    "numbers": (
        "numbers of a patient, a record or an insurance",
        r"(?i:\b(?:mrn|med(?:ical)?\.? rec(?:ord|\.)?|accession|insurance|policy|ssn|social security|nhs|kvnr|svnr"
        r"|(?:patient|record|hospital|unit|chart|case|acc(?:oun)?t?\.?)(?=\s(?:id|no|number|#))|pesel|kimlik|personnummer"
        r"|(?:bsn|cpf|dni|nif|ipp|urn?|chi)(?=\D{0,6}\d{6})|codice fiscale|versicherten(?:nummer)?"
        r"|(?:versicherten|fall|patient(?:en)?|pat\.|aufnahme)-?\s?(?:nr\.?|nummer|id))"
        rf"(?!\w)\s*{_NUMBER}(?=[A-Z-]*\d)[A-Z0-9-]{{4,}})|\bID\s?[:#]\s?\d{{6,}}",
        # of Nordic countries, Brazil, Spain, Italy and France, which tell themselves
        r"(?<![\d-])(?:19|20)?\d{6}-\d{4}(?![\d-])|(?<!\d)\d{3}\.\d{3}\.\d{3}-\d\d(?!\d)|\b(?:\d{8}|[XYZ]\d{7})[A-Z]\b"
        r"|\b[A-Z]{6}\d\d[A-Z]\d\d[A-Z]\d{3}[A-Z]\b|\b[12]\s\d\d\s[01]\d\s\d\d\s\d{3}\s\d{3}\b|(?i:aadhaar)\D{0,12}\d{4}\s?\d{4}",
        r"(?<![\d-])\d{3}-\d{2}-\d{4}(?![\d-])|(?<!\d)756\.\d{4}\.\d{4}\.\d\d(?!\d)|\bNHS\b\D{0,12}\d{3} \d{3} \d{4}",
    ),
    "address": (
        "addresses",
        rf"\b\d{{1,5}}\s+(?:[A-Z][a-z]+\s){{1,3}}(?i:{_STREET})(?=\W|$)|\b(?:P\.?\s?O\.?\s?Box|Postfach)\s+\d+",
        rf"\b[{_CAPITAL}][{_SMALL}]{{2,}}(?:stra(?:ß|ss)e|str\.|weg|platz|allee|gasse|straat|laan|gracht|gatan|vägen|vej)\s+\d{{1,4}}[a-z]?\b",
        rf"\b\d{{1,4}},?\s(?i:rue|boulevard|impasse|chemin|quai)\s(?:\w+\s){{0,3}}[{_CAPITAL}]",
        rf"(?:\b(?:Calle|Avenida|Via|Viale|Piazza|Rua)|\bul\.)\s{_NAME},?\s\d",
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
