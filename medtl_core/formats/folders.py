"""A folder with one sub-folder a class, optionally below train, val and test."""

import os
import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

import numpy as np

from medtl_core.data.faults import Faults
from medtl_core.data.images import SUFFIXES
from medtl_core.data.names import alike, plain_name
from medtl_core.data.readers import NO_PATIENTS, Facts, Reader
from medtl_core.data.task import MANIFEST, TASK
from medtl_core.errors import DataError, did_you_mean
from medtl_core.formats.findings import one_class_each
from medtl_core.formats.needs import SPLITS
from medtl_core.values import Examples, Task

#: What else people call the folders of a split, in letters alone.
_ALSO = {
    "train": r"train(ing|ings)?|trn",
    "val": r"val(id|idate|idation|idierung|idierungs)?|vld|dev(elopment)?|crossval(idation)?",
    "test": r"tests?|testing|tst|holdout|heldout|eval(uation)?",
}
_SPLIT = {
    name: re.compile(
        rf"(internal|external|official|my)?({words})(sets?|data|daten|datensatz|images|bilder|split|cases|faelle)?"
    )
    for name, words in _ALSO.items()
}
_MOVE = "move it into its class's folder; where folders are hospitals, `medtl data draft` lists the cases"
#: Folders of pictures that belong to other pictures, case by case, and are no class of their own.
_PARTNERS = frozenset(("mask", "masks", "annotation", "annotations", "segmentation", "segmentations", "groundtruth"))
#: Names of files that belong to another one, such as "7_mask.png" beside "7.png".
_PARTNER = re.compile(
    r"(.+?)[ _.-](mask|masks|seg|segmentation|label|labels|annotation|annotations|groundtruth|gt|roi)([ _.-]?\d+)?"
)
MASK = ("the file seems to be the mask of another one beside it", "move masks out of the folders of classes")
#: Folders that say what is not sorted, or not of use.
_UNSORTED = frozenset((
    "unlabeled", "unlabelled", "unsorted", "unclassified", "newfolder", "neuerordner", "tmp", "temp", "trash", "backup",
    "thumbs", "thumbnails", "preview", "previews", "fold", "folds", "split", "splits", "augmented", "output", "outputs",
    "results", "predictions", "kopie", "copy",
))  # fmt: skip
#: Names of folders that hold a patient's files each.
_PATIENT = re.compile(
    r"(p|pat|patient|patientin|patients|pt|sub|subj|subject|proband|participant|case|fall|mrn|id)[ _.-]*\d+|\d{5,}"
)
#: How names begin of what systems and file servers keep beside a person's files.
_SYSTEM = ("@eaDir", "#recycle", "#snapshot", "$RECYCLE.BIN", "System Volume Information", "lost+found", "DICOMDIR")
#: What lies beside images and is no case.
_BESIDE = (".txt", ".md", ".csv", ".tsv", ".json", ".toml", ".xml", ".html", ".pdf", ".db", ".ini", ".log")


class ClassFolders(Reader):
    """CLASS/*.png or SPLIT/CLASS/*.png, split being train, val or test.

    Nothing says whose image it is, so every file counts as one patient, and all are one site. Give a `manifest.csv`
    where a patient has several images.
    """

    name = "folders"

    def matches(self, path: Path) -> bool:
        """See `Reader`."""
        return path.is_dir() and bool(_folders(path))

    def read(self, path: Path, task: Task | None, faults: Faults) -> tuple[Examples, Facts]:
        """See `Reader`; the classes found are those of train where there are splits."""
        one_class_each(task, path)
        roots = class_roots(path)
        near = [name for root in roots.values() for name in nearly_named(root, inside=root != path)]
        if near:
            raise DataError(*(f"{name} is not read: its name must be {TASK} or {MANIFEST}, in {path}" for name in near))
        if [*roots.values()] == [path] and len(only := _folders(path)) == 1 and _folders(path / only[0]):
            raise DataError(f"{path} holds one folder, which holds the others: name {path / only[0]} itself")
        refuse_patients(path, roots, task)
        task = task or Task(path.name, tuple(map(plain_name, _folders(roots["train"]))))
        files = [(file, split) for split, root in roots.items() for file in files_below(root)]
        if not files:
            kinds = {file.suffix for file in path.rglob("*") if file.is_file() and not is_hidden(file.name)}
            told = f"{path} holds folders without an image ({', '.join(sorted(kinds)[:5]) or 'no file'})"
            raise DataError(told + "; texts are named by the column note_path of manifest.csv" * (".txt" in kinds))
        inner = [[*map(plain_name, file.relative_to(roots[split]).parts)] for file, split in files]
        faults.place = lambda row: _shown(str(files[row][0].relative_to(path)))
        for row, ((file, _), parts) in enumerate(zip(files, inner, strict=True)):
            if parts[0] not in task.classes or len(parts) != 2 or file.is_dir():
                strange = len(parts) > 1 and parts[0] not in task.classes
                hint = did_you_mean(parts[0], task.classes) if strange else _MOVE
                faults.case(row, "the image lies in no folder of a class, or deeper", hint)
            elif not file.is_file():
                faults.case(row, "the file is a link to nothing", "mount or fetch what it names")
            elif is_mask(file):
                faults.case(row, *MASK)
            elif file.suffix.lower() not in SUFFIXES:
                faults.case(row, f"no image ({', '.join(SUFFIXES)})", f"convert it; its name ends in {file.suffix!r}")
        label = [task.classes.index(parts[0]) if parts[0] in task.classes else 0 for parts in inner]
        columns = {
            "label": np.asarray(label, dtype=np.int64),
            "path": np.asarray([str(file) for file, _ in files], dtype=np.str_),
            "split": np.asarray([split for _, split in files], dtype=np.str_),
            "patient": np.asarray([_shown(str(file.relative_to(path))) for file, _ in files], dtype=np.str_),
            "site": np.full(len(files), "site"),
        }
        return Examples(columns, task), Facts(notes=(NO_PATIENTS,), has_patients=False)


def class_roots(folder: Path) -> dict[str, Path]:
    """Returns the folder that holds the classes of each split, all under "train" where there are no splits.

    Raises:
        DataError: a folder's name is near to a split's, train is missing, or there is no folder of a class.
    """
    names = _folders(folder)
    splits = [name for name in SPLITS if name in names]
    near = [name for name in names if name not in SPLITS and split_of(name)]
    if near or (splits and set(names) - {*splits}):
        strange = sorted({*near, *(set(names) - {*splits} if splits else ())})
        raise DataError(
            *(f"{folder}: the folder {name!r} is no split (train, val, test); {_hint(name)}" for name in strange)
        )
    if splits and "train" not in splits:
        raise DataError(f"{folder} has {', '.join(splits)} but no train folder")
    roots = {name: folder / name for name in splits} or {"train": folder}
    classes = _folders(roots["train"])
    if not classes:
        raise DataError(f"{roots['train']} holds no folder of a class")
    if partners := [name for name in classes if name.lower().replace("_", "") in _PARTNERS]:
        remedy = "move it out, or give it a class's name"
        raise DataError(*(f"{roots['train']}: {name!r} is a folder of masks, no class; {remedy}" for name in partners))
    if unsorted := [name for name in classes if re.sub(r"[\W\d_]", "", name.lower()) in _UNSORTED]:
        remedy = "move it out, or give it a class's name"
        raise DataError(*(f"{roots['train']}: the folder {name!r} says no class; {remedy}" for name in unsorted))
    if twins := alike(classes, plain_name):
        raise DataError(*(f"{roots['train']}: the folders {', '.join(map(ascii, same))} look alike" for same in twins))
    return roots


def are_patients(names: Collection[str]) -> bool:
    """Returns whether all of these are names of folders that hold a patient's files each.

    Example:
        >>> are_patients(["P001", "P002"]), are_patients(["Patient 7", "20931124"]), are_patients(["grade 1", "2"])
        (True, True, False)
    """
    return len(names) > 1 and all(_PATIENT.fullmatch(name.lower()) for name in names)


def refuse_patients(path: Path, roots: Mapping[str, Path], task: Task | None) -> None:
    """Refuses folders of patients, which would be read as classes; those that `task.json` states are some.

    Raises:
        DataError: says how they are called, and no name.
    """
    classes = _folders(roots["train"])
    if task is None and are_patients(classes):
        raise DataError(
            f"{path}: its {len(classes)} folders are called as patients are (such as 'P' and a number), and would be "
            "read as classes: let `medtl data draft` list the cases in manifest.csv, or state the classes in task.json"
        )


def is_mask(file: Path) -> bool:
    """Returns whether a file is called as the mask of another one beside it is."""
    stem, _, suffix = file.name.partition(".")
    if not (meant := _PARTNER.fullmatch(stem.lower())):
        return False
    own = stem[: meant.end(1)]
    return any((file.parent / f"{own}.{each}").exists() for each in (suffix, *(other[1:] for other in SUFFIXES)))


def split_of(name: str) -> str:
    """Returns the split that a folder's name is near to, or ""."""
    letters = re.sub("[^a-z]", "", name.lower())
    return next((split for split, words in _SPLIT.items() if words.fullmatch(letters)), "")


def nearly_named(folder: Path, *, inside: bool = False) -> list[Path]:
    """Returns files that seem to be meant as `task.json` or `manifest.csv` and are not called so, or lie too deep.

    Args:
        folder: where they lie.
        inside: whether the right names are wrong, too, because it is the folder of a split.
    """
    right = () if inside else (TASK, MANIFEST)
    wrong = re.compile(r"(task\.json|manifest\.csv)(\.txt)?", re.IGNORECASE)
    return [file for file in sorted(folder.iterdir()) if wrong.fullmatch(file.name) and file.name not in right]


def _hint(name: str) -> str:
    meant = split_of(name)
    return f"rename it to {meant!r}" if meant else did_you_mean(name, SPLITS)


def _folders(root: Path) -> list[str]:
    """The names of the folders in one, sorted; a link to nothing is refused, for it may be one."""
    try:
        places = sorted(place for place in root.iterdir() if not is_hidden(place.name))
    except OSError as error:
        raise _closed(error) from error
    causes = [
        f"the folder {_shown(str(place))} has a name that is not UTF-8; rename it"
        for place in places
        if _shown(place.name) != place.name
    ]
    gone = [place for place in places if not place.exists() and not place.suffix]
    causes += [f"{_shown(str(place))} is a link to nothing; mount or fetch what it names" for place in gone]
    if causes:
        raise DataError(*causes)
    return [place.name for place in places if place.is_dir()]


def files_below(root: Path) -> Iterator[Path]:
    """Yields every file below a folder and its classes, in order, but what lies beside images; links lead no deeper."""
    for top in (root, *(root / name for name in _folders(root))):
        for place, folders, names in os.walk(top, onerror=refuse_closed):
            deeper = [name for name in folders if top != root and Path(place, name).is_symlink()]
            folders[:] = [] if top == root else sorted(name for name in folders if not is_hidden(name))
            for name in sorted([*names, *deeper]):
                if not is_hidden(name) and Path(name).suffix.lower() not in _BESIDE:
                    yield Path(place) / name


def refuse_closed(error: OSError) -> None:
    """Refuses a folder that cannot be looked into; see `os.walk`.

    Raises:
        DataError: always.
    """
    raise _closed(error) from error


def _closed(error: OSError) -> DataError:
    """The error of a folder that cannot be looked into; without it, its cases would be missed in silence."""
    return DataError(
        f"the folder {_shown(str(error.filename))} cannot be read ({error.strerror}); permit it, or leave it out"
    )


def _shown(name: str) -> str:
    """A name that can be written down: bytes that are no UTF-8 as their numbers."""
    return name.encode(errors="surrogateescape").decode(errors="backslashreplace")


def is_hidden(name: str) -> bool:
    """Returns whether a file or folder is none of a person's, by its name."""
    return name.startswith((".", "__", *_SYSTEM))


READERS = (ClassFolders(),)
