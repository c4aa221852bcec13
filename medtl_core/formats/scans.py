"""DICOM, NIfTI and slide files as cases: a folder a class, or a manifest that names them by number.

A case is one file, or a folder with the slices of one series. Files are decoded later, in a limited process.
"""

import hmac
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence, Set
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np

from medtl_core.backbones.zoo import own_folder
from medtl_core.data.faults import Faults
from medtl_core.data.names import hospital_names, missing, plain_name
from medtl_core.data.readers import NO_PATIENTS, Facts, Reader
from medtl_core.data.task import MANIFEST
from medtl_core.errors import DataError
from medtl_core.formats.decoder import decoder, kind_of, side_by_side
from medtl_core.formats.dicom_identity import is_dummy
from medtl_core.formats.findings import diagnoses, diagnosis_columns, one_class_each
from medtl_core.formats.folders import MASK, class_roots, files_below, is_mask, refuse_patients
from medtl_core.formats.manifest import Manifest
from medtl_core.formats.needs import require, splits
from medtl_core.formats.table import read_csv, read_header
from medtl_core.privacy.hospital_file import is_deployed
from medtl_core.privacy.identity import kept_key
from medtl_core.values import Array, Examples, Task

#: File in the hospital's folder with the key under which patients of its headers are known.
PATIENTS_KEY = "patients.key"
#: Files by most of which a folder is told: a list of checksums may lie beside the cases.
_LOOKED = 20
#: Parts of the path of a case below its split: its class's folder, and itself.
_IN_CLASS = 2
#: What else people call columns of numbers, in letters alone.
_NEAR = re.compile("accession(no|nr|number)?|sop(instance)?uid|study(instance)?uid|series(instance)?uid")
#: Column of a manifest -> the header's word that it is compared with.
NUMBERS = {"sop_instance_uid": "SOPInstanceUID", "accession_number": "AccessionNumber"}


class Scans(Reader):
    """Files of one kind, "dicom", "volumes" or "slides": CLASS/FILE, CLASS/SERIES/FILE, or below train, val and test.

    DICOM files may also be named by a `manifest.csv` with the column sop_instance_uid or accession_number, label, and
    optionally patient_id, site and split. Where nothing else says whose a DICOM file is, its header does.

    Guarantee:
        A header's patient id is kept as a hash under the hospital's own key, which lies in its folder and is never
        sent; the id itself is written nowhere.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    def matches(self, path: Path) -> bool:
        """See `Reader`."""
        if _manifest(path).is_file():
            header = {*read_header(_manifest(path))}
            near = any(_NEAR.fullmatch(re.sub("[^a-z]", "", name.lower())) for name in header)
            if self.name == "dicom" and near and "path" not in header and not NUMBERS.keys() & header:
                return "dicom" in map(kind_of, islice(files_below(_manifest(path).parent), _LOOKED))
            return self.name == "dicom" and bool(NUMBERS.keys() & header)
        kinds = Counter(map(kind_of, islice(files_below(path), _LOOKED))) if path.is_dir() else Counter[str]()
        return kinds[self.name] > 0 and kinds.most_common(1)[0][0] == self.name

    def read(self, path: Path, task: Task | None, faults: Faults) -> tuple[Examples, Facts]:
        """See `Reader`; the classes found are those of train where there are splits."""
        if not _manifest(path).is_file():
            return self._in_folders(path, task, faults)
        if "path" in (header := read_header(_manifest(path))) and not NUMBERS.keys() & {*header}:
            return Manifest("images", images=True, numbers=False).read(path, task, faults)
        return _numbered(_manifest(path), task, faults)

    def _in_folders(self, path: Path, task: Task | None, faults: Faults) -> tuple[Examples, Facts]:
        one_class_each(task, path)
        roots = class_roots(path)
        found = [(case, split) for split, root in roots.items() for case in _cases(root, series=self.name == "dicom")]
        ids = _ids([_first(case) for case, _ in found]) if self.name == "dicom" else ()
        beside = {*roots.values()}
        if task is None and _are_series([case for case, _ in found], ids, beside):
            raise DataError(
                f"{path}: every folder holds the slices of one series, and so is a case and no class: sort them as "
                "CLASS/SERIES/FILE, or let `medtl data draft` list them in manifest.csv"
            )
        refuse_patients(path, roots, task)
        deep = [len(case.relative_to(roots[split]).parts) for case, split in found]
        words = [
            plain_name(case.parent.name) * (depth == _IN_CLASS) for (case, _), depth in zip(found, deep, strict=True)
        ]
        of_train = {word for word, (_, split) in zip(words, found, strict=True) if word and split == "train"}
        task = task or Task(path.name, tuple(sorted(of_train)))
        faults.place = lambda row: str(found[row][0].relative_to(path))
        unknown = [row for row, word in enumerate(words) if word not in task.classes]
        remedy = f"expected one of {', '.join(task.classes)}" if task.classes else "`medtl data draft` lists the cases"
        faults.case(unknown, "the scan lies in no folder of a class", remedy)
        faults.case([row for row, (case, _) in enumerate(found) if is_mask(case)], *MASK)
        strange = [row for row, (case, _) in enumerate(found) if case.is_file() and kind_of(case) != self.name]
        faults.case(strange, f"the file is none of the {self.name} beside it", "keep one kind of file, or move it out")
        patients = _patients([one.get("PatientID", "") for one in ids], path, faults)
        columns = {
            "label": np.asarray([task.classes.index(word) if word in task.classes else 0 for word in words], np.int64),
            "path": np.asarray([str(case) for case, _ in found], np.str_),
            "split": np.asarray([split for _, split in found], np.str_),
            "patient": np.asarray(patients or [str(case.relative_to(path)) for case, _ in found], np.str_),
            "site": np.full(len(found), "site"),
        }
        notes = (*_modalities(ids), *(() if patients else (NO_PATIENTS,)))
        return Examples(columns, task), Facts(notes=notes, has_patients=bool(patients))


def _cases(root: Path, *, series: bool) -> list[Path]:
    """Files in the folders of classes, and those that lie deeper, or else the folders of series there."""
    files = [file for file in files_below(root) if not series or len(file.relative_to(root).parts) <= _IN_CLASS]
    folders = [place for place in root.glob("*/*/") if not place.name.startswith(".")] if series else []
    return sorted([*files, *folders])


def _are_series(cases: Sequence[Path], ids: Sequence[Mapping[str, str]], beside: Set[Path]) -> bool:
    """Whether files lie in folders each of which holds several slices, all of one series and of no other folder's; what
    lies beside such folders does not matter.
    """
    places: dict[Path, list[str]] = defaultdict(list)
    for case, one in zip(cases, ids, strict=False):
        if case.parent in beside:
            continue
        places[case.parent].append("" if case.is_dir() else one.get("SeriesInstanceUID", ""))
    series = [{*names} for names in places.values()]
    return all(len(names) > 1 for names in places.values()) and len(series) == len(set[str]().union(*series) - {""}) > 0


def _first(case: Path) -> Path:
    return next(files_below(case), case) if case.is_dir() else case


def _ids(files: Sequence[Path]) -> list[Mapping[str, str]]:
    """The numbers in DICOM files' headers; none of a file that is refused."""
    asked = side_by_side(partial(decoder().ask_each, "ids"), files)
    return [{} if isinstance(one, DataError) else one[0] for one in asked]


def _manifest(path: Path) -> Path:
    return path if path.suffix.lower() == ".csv" else path / MANIFEST


def _numbered(path: Path, task: Task | None, faults: Faults) -> tuple[Examples, Facts]:
    """The cases of a manifest that names DICOM files by a number in their headers."""
    table = read_csv(path, faults)
    column = next((name for name in NUMBERS if name in table.columns), "accession_number")
    require(table, (column, *diagnosis_columns(table.columns, task)), ("patient_id", "site", "split"))
    files: dict[str, list[tuple[Path, str]]] = defaultdict(list)
    inside = list(files_below(path.parent))
    for file, ids in zip(inside, heads := _ids(inside), strict=True):
        files[ids.get(NUMBERS[column], "")].append((file, ids.get("PatientID", "")))
    refused, numbers = len(files.pop("", ())), table.filled(column, table.texts(column))
    cases = [_case_of(files.get(number, ())) for number in numbers.tolist()]
    gone = np.asarray([case is None for case in cases], bool) & ~missing(numbers)
    remedy = f"{refused} files have none, or are refused: `medtl data check` on a manifest of paths says why"
    table.fault(column, gone, "names no readable file, or one study of several folders", remedy)
    columns: dict[str, Array] = {
        "path": np.asarray([str(case or path) for case in cases], np.str_),
        "site": hospital_names(table.names("site", "site")),
        "split": splits(table, "split"),
    }
    own = [files[number][0][1] if case else "-" for case, number in zip(cases, numbers.tolist(), strict=True)]
    stated = "patient_id" in table.columns
    patients = table.ids("patient_id") if stated else _patients(own, path, faults)
    columns["patient"] = np.asarray(patients if len(patients) else numbers, np.str_)
    diagnosed, task = diagnoses(table, task)
    told, both = (*table.notes, *_modalities(heads)), {*zip(own, columns["patient"].tolist(), strict=True)}
    if stated and (count := sum(often > 1 for one, often in Counter(one for one, _ in both).items() if one.strip("-"))):
        told = (*told, f"{count} patients of the headers have several ids in {path.name}: whose files are they?")
    return Examples({**columns, **diagnosed}, task), Facts(notes=told, has_patients=bool(len(patients)))


def _modalities(heads: Sequence[Mapping[str, str]]) -> tuple[str, ...]:
    """What modalities there are, in a sentence, if several: they may tell the classes apart, or be others' images."""
    count = Counter(head["Modality"] for head in heads if head.get("Modality"))
    told = ", ".join(f"{name} {number}" for name, number in sorted(count.items()))
    return (f"The files are of several modalities, which may tell the classes apart: {told}.",) * (len(count) > 1)


def _case_of(files: Sequence[tuple[Path, str]]) -> Path | None:
    """The one file there is, or the folder that holds these files and no other; None where there is neither."""
    places = {file.parent for file, _ in files}
    if len(files) == 1:
        return files[0][0]
    return places.pop() if len(places) == 1 and len(files) == len([*files_below(*places)]) else None


def _patients(ids: Sequence[str], path: Path, faults: Faults) -> list[str]:
    """Whose cases are, by the ids in their headers; none where no header says. One that does not is then at fault."""
    ids = ["" if is_dummy("ids", one) else one for one in ids]
    if not any(ids):
        return []
    lacking = [row for row, one in enumerate(ids) if not one]
    faults.case(lacking, "the header holds no patient id, or is refused", "state all ids in a manifest")
    key = kept_key(_hospital(path) / PATIENTS_KEY, "key of patients")
    return ["patient-" + hmac.digest(key, one.encode(), "sha256").hex()[:16] for one in ids]


def _hospital(path: Path) -> Path:
    """The folder of the hospital that data lie in, else the user's own."""
    within = next((place for place in (path.absolute(), *path.absolute().parents) if is_deployed(place)), None)
    return within or own_folder().parent


READERS = (Scans("dicom"), Scans("volumes"), Scans("slides"))
