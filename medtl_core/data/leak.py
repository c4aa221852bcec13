"""No patient and no picture on two sides of a partition, and no picture with two labels."""

from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medtl_core.data.images import content_key
from medtl_core.data.names import one_patient_each
from medtl_core.errors import DataError
from medtl_core.values import Examples


def check_leaks(examples: Examples, parts_of: Mapping[str, NDArray[np.int64]]) -> None:
    """Refuses sides (train and test, or two hospitals) that share a patient or a byte-equal image.

    Signals count as images. Files are only hashed where two have the same length, so a check costs one `stat` a file.
    Rows of a table are compared by patient only: two patients may well have equal values.

    Args:
        examples: the cases.
        parts_of: side name -> rows (int64). Rows on no side are not looked at.

    Raises:
        DataError: names the first two cases and their sides. This text stays in the building.
    """
    for cases, fault in leaks(examples, parts_of):
        raise DataError(f"{cases} {fault}")


def leaks(examples: Examples, parts_of: Mapping[str, NDArray[np.int64]]) -> Iterator[tuple[str, str]]:
    """Yields every two cases that sides share, and what is wrong with them; arguments as in `check_leaks`."""
    sides = list(parts_of)
    rows = np.concatenate([np.asarray(parts_of[side], dtype=np.int64) for side in sides]) if sides else np.empty(0, int)
    side = np.repeat(np.arange(len(sides)), [len(parts_of[name]) for name in sides])
    same_patient = (
        "are of one patient, in {}: keep all of a patient's cases on one side; if these are different people, make "
        "their ids unique"
    )
    what = "byte-equal images" if {"path", "image"} & examples.columns.keys() else "of one content"
    twins, keys = _content_keys(examples, rows)
    for places, key, fault in (
        (np.arange(len(rows)), examples["patient"][rows], same_patient),
        (twins, keys, f"are {what} in {{}}: remove one of them"),
    ):
        order = np.lexsort((side[places], key))
        ones, others = places[order[:-1]], places[order[1:]]
        apart = side[ones] != side[others]
        strange = examples["label"][rows[ones]] != examples["label"][rows[others]] if key is keys else apart
        for pair in np.flatnonzero((key[order[:-1]] == key[order[1:]]) & (apart | strange)).tolist():
            cases = " and ".join(_name(examples, row) for row in rows[[ones[pair], others[pair]]].tolist())
            if apart[pair]:
                yield cases, fault.format(" and ".join(repr(sides[side[one[pair]]]) for one in (ones, others)))
            else:
                yield cases, f"are {what} with different labels: keep the one that is right"


def joined(*parts: Examples, patients: bool) -> Examples:
    """Returns the cases of several sets, as far as sides are compared: images and, where known, patients."""
    kinds = [name for name in ("path", "image", "signal", "note_key") if all(name in part.columns for part in parts)]
    told = [name for name in ("label", "labels", "patient") if name in parts[0].columns]
    columns = {name: np.concatenate([part[name] for part in parts]) for name in told}
    nobodys = np.arange(len(columns["label"])).astype(str)
    columns["patient"] = one_patient_each(columns["patient"]) if patients else nobodys
    for name in kinds:
        columns[name] = np.empty(sum(map(len, parts)), dtype=object)  # images may differ in size
        for row, image in enumerate(chain(*(part[name] for part in parts))):
            columns[name][row] = image
    return Examples(columns, parts[0].task)


def _content_keys(examples: Examples, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.str_]]:
    """Returns the positions in `rows` whose image may have a twin, and the keys of those images."""
    arrays = next((examples[name] for name in ("image", "signal") if name in examples.columns), None)
    if arrays is not None:
        return np.arange(len(rows)), np.asarray([content_key(arrays[row]) for row in rows], dtype=np.str_)
    if "note_key" in examples.columns and "path" not in examples.columns:
        told = np.flatnonzero(examples["note_key"][rows] != "")  # a case may have no note
        return told, examples["note_key"][rows[told]].astype(np.str_)
    if "path" not in examples.columns:
        return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.str_)
    paths = examples["path"][rows]
    sizes = np.asarray([_size(Path(path)) if path else 0 for path in paths], dtype=np.int64)
    _, code, counts = np.unique(sizes, return_inverse=True, return_counts=True)
    keep = np.flatnonzero((counts[code] > 1) & (sizes > 0))
    return keep, np.asarray([content_key(path) for path in paths[keep]], dtype=np.str_)


def _size(path: Path) -> int:
    """Bytes of a file; 0 = it is empty or not there, which is its reader's to say."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _name(examples: Examples, row: int) -> str:
    if "path" in examples.columns:
        return str(examples["path"][row])
    return f"image {row}" if "image" in examples.columns else f"case {row + 1}"
