"""Reading a catalogued data set where it lies."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medtl_core.data.arrays import read_arrays, read_medmnist
from medtl_core.data.catalog import Entry, Field
from medtl_core.data.table import Table, encode, read_csv, require, splits
from medtl_core.errors import DataError
from medtl_core.values import Array, Examples


def read_known(entry: Entry, path: Path) -> Examples:
    """Returns the cases of a catalogued set from its folder, or from its own file.

    Raises:
        DataError: a file is missing or damaged, or says something the catalog does not know.
    """
    folder = path if path.is_dir() else path.parent
    if entry.layout.kind == "medmnist":
        return read_medmnist(_largest(entry, path), entry.task)
    if entry.layout.kind == "arrays":
        return read_arrays(folder / entry.files[0], entry.task)
    table = read_csv(folder / entry.files[0])
    layout = entry.layout
    require(table, [name for name in (layout.label, layout.patient, layout.site, layout.split, layout.image) if name])
    label, task = encode(table, layout.label, entry.task, layout.labels)
    columns: dict[str, Array] = {
        "label": label,
        "patient": table.filled(layout.patient) if layout.patient else _numbered(len(table)),
        "site": table.filled(layout.site) if layout.site else np.full(len(table), entry.name),
        "split": splits(table, layout.split),
    }
    used = {layout.label, layout.patient, layout.site, layout.split, layout.image}
    if layout.kind == "table":
        require(table, [field.name for field in layout.fields])
        used |= {field.name for field in layout.fields}
        columns["table"] = np.concatenate([_field(table, field) for field in layout.fields], axis=1)
    else:
        files = table.filled(layout.image).tolist()
        columns["path"] = np.asarray([str(folder / layout.pattern.format(name)) for name in files])
    free = {name: values for name, values in table.columns.items() if name not in used | columns.keys()}
    return Examples({**columns, **free}, task)


def _largest(entry: Entry, path: Path) -> Path:
    if path.is_file():
        return path
    present = [path / name for name in entry.files if (path / name).is_file()]
    if not present:
        raise DataError(f"{path} holds none of {', '.join(entry.files)}")
    return present[-1]


def _field(table: Table, field: Field) -> NDArray[np.float64]:
    """Returns a field's columns, float64 [n, 1 or number of levels]; NaN where it was not measured."""
    values = table.numbers(field.name)
    if field.zero_missing:
        values = np.where(values == 0, np.nan, values)
    if not field.levels:
        return ((values - field.centre) / field.scale)[:, None]
    shown = (values[:, None] == np.asarray(field.levels)).astype(np.float64)
    return np.where(np.isnan(values)[:, None], np.nan, shown)


def _numbered(count: int) -> Array:
    return np.asarray([f"row-{number}" for number in range(1, count + 1)])
