"""Public dermoscopy as its publishers lay it out. A lesion stands for a patient: no set says whose it is."""

from collections.abc import Sequence
from pathlib import Path

from medtl_core.data.catalog import Entry
from medtl_core.data.faults import Faults
from medtl_core.data.names import MISSING
from medtl_core.formats.joined import FAULT, looked_up, unclear, with_columns
from medtl_core.formats.layouts import needed
from medtl_core.formats.needs import require
from medtl_core.formats.table import CsvTable, read_csv

#: The centres of Fed-ISIC2019 by their numbers, as FLamby counts them.
_CENTRES = ("BCN", "HAM_vidir_molemax", "HAM_vidir_modern", "HAM_rosendahl", "MSK", "HAM_vienna_dias")


def isic2019(entry: Entry, folder: Path) -> CsvTable:
    """Returns ISIC 2019, or Fed-ISIC2019: one column a diagnosis, and lesions by the metadata beside it."""
    table = read_csv(needed(entry, folder, entry.files[0]), Faults())
    lesions = read_csv(needed(entry, folder, entry.layout.beside[0]), Faults())
    require(table, [*entry.task.classes, *entry.layout.columns])
    require(lesions, ["image", "lesion_id"])
    images = table.columns["image"]
    known = zip(looked_up(images, lesions, "image", "lesion_id"), images, strict=True)
    patients = [image if lesion.lower() in MISSING else lesion for lesion, image in known]
    fault = unclear(images, lesions, "image")
    columns = {"patient": patients, "label": _marked(table, entry.task.classes), FAULT: fault}
    if site := entry.layout.site:
        names = {str(number): name for number, name in enumerate(_CENTRES)}
        columns[site] = [names.get(cell.removesuffix(".0"), cell) for cell in table.columns[site]]
    return with_columns(table, columns)


def ham10000(entry: Entry, folder: Path) -> CsvTable:
    """Returns HAM10000; its later editions say in the column `dataset` where an image was taken."""
    table = read_csv(needed(entry, folder, entry.files[0]), Faults())
    require(table, entry.layout.columns)
    return with_columns(table, {"site": table.columns["dataset"]}) if "dataset" in table.columns else table


def _marked(table: CsvTable, names: Sequence[str]) -> list[str]:
    """The diagnosis whose column is 1 in each row."""
    cells = zip(*(table.columns[name] for name in names), strict=True)
    found = [[name for name, cell in zip(names, row, strict=True) if cell in ("1", "1.0")] for row in cells]
    return [each[0] if len(each) == 1 else "no diagnosis, or several" for each in found]
