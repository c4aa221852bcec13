"""Which public set lies in a place: recognised by its own files and the columns of its table, named by a word."""

from collections.abc import Callable
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path

from medtl_core.data.catalog import Entry, catalog
from medtl_core.errors import ConfigError, DataError, did_you_mean
from medtl_core.formats.arrays import array_names
from medtl_core.formats.table import read_header
from medtl_core.values import Task

#: What an uncertain finding counts as: as there, as not there, or the case is left out.
POLICIES = ("ones", "zeros", "ignore")
#: In place of a finding: whether there is any.
ANY = "any"
#: A table of which more than this share of the columns is there is meant, and one that lacks some is refused by name.
_MEANT = 0.5


def recognise(path: Path, named: Entry | None = None) -> Entry | None:
    """Returns the known set that lies in a folder or file, or None.

    A table that lacks some of its set's columns is taken for it where no set fits as a whole and most are there: its
    reader then says which one is missing.

    Args:
        path: the folder, or one of the set's own files.
        named: the set that is meant, where somebody says so; it comes back if its files are there.

    Raises:
        DataError: the folder holds several known sets.
    """
    if named is not None and holds(named, path):
        return named
    present = [entry for entry in catalog().values() if holds(entry, path)]
    present = present or [entry for entry in catalog().values() if holds(entry, path, _MEANT)]
    if len(present) > 1:
        names = ", ".join(entry.name for entry in present)
        raise DataError(f"{path} holds several known sets ({names}): set data to one of these names")
    return present[0] if present else None


def holds(entry: Entry, path: Path, share: float = 1.0) -> bool:
    """Returns whether a folder, or one of the set's own files, holds it.

    Args:
        entry: the set.
        path: the folder or file.
        share: of the columns that its table must have; below 1, more than this.
    """
    if path.is_file():
        return any(fnmatchcase(path.name, file) for name in entry.files for file in (name, f"{name}.gz")) and _fits(
            entry, path.parent, share
        )
    if not entry.files or any(marker(path, name) for name in entry.layout.without):
        return False
    some: Callable[..., bool] = any if entry.layout.kind == "medmnist" else all
    return some(marker(path, name) is not None for name in entry.files) and _fits(entry, path, share)


def marker(folder: Path, name: str) -> Path | None:
    """Returns the file or folder of a name, in which * stands for anything; a CSV file may be packed (.csv.gz)."""
    for each in (name, f"{name}.gz") if name.endswith(".csv") else (name,):
        found = max(folder.glob(each), default=None) if name.endswith(".csv") else next(folder.glob(each), None)
        if found is not None:
            return found
    return None


def needed(entry: Entry, folder: Path, name: str) -> Path:
    """Returns one of the files that a set's layout needs.

    Raises:
        DataError: it is not there.
    """
    found = marker(folder, name)
    if found is None:
        packed = f" (or {name}.gz)" if name.endswith(".csv") else ""
        raise DataError(f"{folder} is laid out as {entry.title} and lacks {name}{packed}; fetch it from {entry.url}")
    return found


def named_entry(word: str) -> Entry:
    """Returns the known set that the setting `data` names.

    Where an image may show several findings, one may be made the task: it follows behind a colon, and behind another
    what counts where a report is not certain of it: "chexpert:Edema", "chexpert:Edema:zeros", or "chexpert:any".

    Raises:
        ConfigError: there is no set, finding or policy of that name.
    """
    name, _, finding = word.partition(":")
    finding, _, policy = finding.partition(":")
    if name not in catalog():
        raise ConfigError(f"data={word!r} is not in the catalog; {did_you_mean(name, catalog())}")
    entry = catalog()[name]
    if word == name:
        return entry
    layout = entry.layout
    if layout.findings and word == f"{name}:{ANY}":
        return replace(entry, name=word, task=Task("chest-finding", ("no-finding", "finding")))
    if finding not in layout.findings:
        raise ConfigError(f"data={word!r}: {name} has no such finding; {did_you_mean(finding, layout.findings)}")
    if policy:
        if policy not in POLICIES:
            raise ConfigError(f"data={word!r}: uncertain findings count as ones or zeros, or ignore leaves them out")
        layout = replace(layout, uncertain={**layout.uncertain, finding: policy})
    return replace(entry, name=word, task=Task(finding, ("absent", "present")), layout=replace(layout, finding=finding))


def _fits(entry: Entry, folder: Path, share: float) -> bool:
    """Tells sets apart whose tables share a name; an unreadable header fits nothing."""
    layout = entry.layout
    marks = {"chexpert": layout.findings, "isic2019": entry.task.classes}.get(layout.kind, ())
    wanted = {*layout.columns, *marks}
    table = marker(folder, entry.files[0]) if wanted else None
    names = array_names if layout.kind == "signals" else read_header
    there = len(wanted & {*names(table)}) if table else 0
    return there == len(wanted) or there > share * len(wanted)
