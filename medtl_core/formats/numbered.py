"""Folders of classes whose files' names hold the patient's number."""

import re
from pathlib import Path

from medtl_core.data.catalog import Entry
from medtl_core.formats.folders import files_below
from medtl_core.formats.joined import listing
from medtl_core.formats.needs import SPLITS
from medtl_core.formats.table import CsvTable


def numbered(entry: Entry, folder: Path) -> CsvTable:
    """Returns a table of SPLIT/CLASS/FILE, each file with what `layout.number` finds in its name."""
    pattern, roots = re.compile(entry.layout.number), [folder / name for name in SPLITS]
    files = [file.relative_to(folder) for root in roots if root.is_dir() for file in files_below(root)]
    found = [pattern.match(file.name) for file in files]
    columns = {
        "image": [str(file) for file in files],
        "label": [file.parts[1] if len(file.parts) == 3 else "in no folder of a class" for file in files],
        "split": [file.parts[0] for file in files],
        "patient": ["-".join(filter(None, each.groups())) if each else "" for each in found],
    }
    return listing(folder.name, columns)
