"""Whose picture a DICOM file is: found in its header, refused unless the hospital permits it, never quoted.

Only what medtl reads leaves the header, and none of it is text; still a hospital should know before it lets a run at
its files. A file that was de-identified passes: with empty or replaced values, or where (0012,0062) says so.
"""

import re
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from medtl_core.errors import ConfigError, DataError, did_you_mean

#: The hospital's word on its own files, in their folder or one above: `permit = [...]`.
PERMITS = "dicom.toml"
#: Kind of identity -> what a refusal calls it.
KINDS = {
    "names": "names of persons",
    "ids": "ids of a patient or study",
    "dates": "dates",
    "comments": "comments in free text",
    "private": "private elements",
    "burned-in": "the flag that text is burned into the pixels",
}
_IDS = (
    "PatientID", "OtherPatientIDs", "OtherPatientIDsSequence", "AccessionNumber", "StudyID", "AdmissionID",
    "IssuerOfPatientID", "PatientAddress", "PatientTelephoneNumbers", "PatientTelecomInformation",
    "MedicalRecordLocator", "MilitaryRank", "InsurancePlanIdentification", "ServiceEpisodeID",
)  # fmt: skip
_COMMENTS = (
    "PatientComments", "AdditionalPatientHistory", "ImageComments", "VisitComments", "StudyComments",
    "IdentifyingComments", "TextComments", "ResultsComments", "InterpretationText",
)  # fmt: skip
#: What de-identification writes in place of a value.
_DUMMY = re.compile(
    r"[\s\^=]*|(anon(?:ym\w*)?|de-?identified|removed|none|unknown|redacted)(\s+by\s+\w+)?[\s\^=]*", re.IGNORECASE
)
_DUMMY_DATES = (b"00010101", b"19000101")
#: PS3.16 CID 7050: private elements that are known to be safe were retained.
_SAFE_PRIVATE = "113111"


def check_identity(dataset: Any, folder: Path) -> None:
    """Refuses a file whose header identifies a patient in a way that its hospital does not permit.

    Args:
        dataset: a pydicom Dataset.
        folder: of its file; `PERMITS` is looked for there and above.

    Guarantee:
        No value of the header is quoted, and none is returned.

    Raises:
        DataError: names the kinds of identity there are, and the remedy.
        ConfigError: see `permits`.
    """
    refused = identities(dataset) - permits(folder)
    if refused:
        kinds = [kind for kind in KINDS if kind in refused]
        listed = ", ".join(KINDS[kind] for kind in kinds)
        words = ", ".join(f'"{kind}"' for kind in kinds)
        raise DataError(
            f"the header holds {listed}: de-identify the files first (`dicom-anonymizer IN OUT`), or permit it in "
            f"{PERMITS} beside them, permit = [{words}]"
        )


def identities(dataset: Any) -> set[str]:
    """Returns the `KINDS` of identity in a pydicom Dataset and all its sequences, those of private elements included.

    Where the header says that the patient's identity was removed, ids and dates count as replaced, and private elements
    as safe if the method was the one that retains safe ones (PS3.15 E.3.10).
    """
    kinds = {kind for kind, value in _marks(dataset) if not is_dummy(kind, value)}
    if _text(dataset, "PatientIdentityRemoved") == "YES":
        kinds -= {"ids", "dates"}
        codes = [str(item.get("CodeValue", "")) for item in dataset.get("DeidentificationMethodCodeSequence") or ()]
        if _SAFE_PRIVATE in " ".join([*codes, _text(dataset, "DeidentificationMethod")]):
            kinds -= {"private"}
    if _text(dataset, "BurnedInAnnotation") == "YES":
        kinds.add("burned-in")
    return kinds


@cache
def permits(folder: Path, name: str = PERMITS, kinds: tuple[str, ...] = tuple(KINDS)) -> frozenset[str]:
    """Returns the kinds of identity that a hospital permits in a folder: by the nearest file of a name, there or above.

    Raises:
        ConfigError: the file cannot be read, or names an unknown kind.
    """
    places = (place / name for place in (folder.absolute(), *folder.absolute().parents))
    path = next((place for place in places if place.is_file()), None)
    if path is None:
        return frozenset()
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read: {getattr(error, 'strerror', None) or 'no TOML in UTF-8'}") from error
    words = table.get("permit")
    if table.keys() != {"permit"} or not isinstance(words, list):
        raise ConfigError(f"{path} must hold one line, permit = [...], of {', '.join(kinds)}")
    for word in words:
        if word not in kinds:
            raise ConfigError(f"{path}: {str(word)[:20]!r} is no kind of identity; {did_you_mean(str(word), kinds)}")
    return frozenset(words)


@cache
def _kinds_by_tag() -> dict[int, str]:
    """The tags that mark a kind of identity, and those of sequences, as numbers."""
    from pydicom.datadict import dictionary_VR, keyword_dict

    kinds = {"PN": "names", "DA": "dates", "DT": "dates", "SQ": "sequence"}
    representations = {tag: dictionary_VR(tag) for tag in keyword_dict.values()}
    marked = {tag: kinds[name] for tag, name in representations.items() if name in kinds}
    marked |= {keyword_dict[word]: "ids" for word in _IDS}
    return marked | {keyword_dict[word]: "comments" for word in _COMMENTS}


def _marks(dataset: Any) -> Iterator[tuple[str, Any]]:
    """Yields (kind, value) of the elements that may identify; values stay raw, for parsing all of them takes long."""
    kinds = _kinds_by_tag()
    for tag, element in dataset.items():
        number = int(tag)  # a pydicom tag compares slowly
        kind = "private" if number >> 16 & 1 else kinds.get(number, "")
        if kind and kind != "sequence":
            yield kind, element.value
        elif kind or element.VR == "SQ":
            for item in dataset[tag].value or ():
                yield from _marks(item)


def is_dummy(kind: str, value: Any) -> bool:
    """Returns whether a value, raw or parsed, stands for nobody, as de-identification writes it into every file."""
    raw = bytes(value) if isinstance(value, bytes | memoryview) else b"" if value is None else str(value).encode()
    raw = raw.strip(b"\0 ")
    if kind == "dates":
        return raw[:8] in (b"", *_DUMMY_DATES)
    return not raw if kind == "private" else bool(_DUMMY.fullmatch(raw.decode("latin-1")))


def _text(dataset: Any, keyword: str) -> str:
    return str(dataset.get(keyword) or "").strip().upper()
