"""A tabular encoder that one hospital fitted and others read: their few cases then speak in its few directions.

The encoder fills gaps with the source's medians, scales by its spread and takes what told the source's classes apart,
beside its first principal components. It is a safetensors file; a schema names it with its SHA-256, so that all
hospitals read the same one or none. It holds means and directions of the source's patients: what the source may publish
is its own decision.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from medtl_core.errors import DataError, WeightsError

Float = NDArray[np.float64]
#: Of the ridge that tells the source's classes apart, a case; and the least spread, against rounding.
_PENALTY, _LEAST = 0.1, 1e-9


@dataclass(frozen=True)
class Encoder:
    """A linear map of columns of which some are not measured.

    Attributes:
        columns: the meaning of each of the k columns, as `Schema.features` has it.
        fill, scale: float64 [k], of the source's training cases: median, and standard deviation about it.
        weight: float64 [2 k, r], on filled and scaled values and on what is missing.
        sha256: of the file.
    """

    columns: tuple[str, ...]
    fill: Float
    scale: Float
    weight: Float
    sha256: str = ""

    @classmethod
    def fit(cls, table: Float, label: NDArray[np.int64], columns: Sequence[str], components: int = 4) -> Self:
        """Returns the encoder of a source site.

        Args:
            table: float64 [n, k], NaN where not measured.
            label: int64 [n].
            columns: meaning of each column.
            components: principal ones beside the directions of the classes.

        Raises:
            DataError: the source has no case or a single class.
        """
        classes = np.unique(label)
        if len(classes) < 2:
            raise DataError("an encoder needs a source site with cases of at least two classes")
        measured = ~np.isnan(table).all(axis=0)
        fill = np.zeros(table.shape[1])
        fill[measured] = np.nanmedian(table[:, measured], axis=0)
        scale = np.sqrt(np.square(np.where(np.isnan(table), fill, table) - fill).mean(axis=0))
        blank = cls(tuple(columns), fill, np.where(scale > _LEAST, scale, 1.0), np.eye(2 * table.shape[1]))
        inputs = blank.encoded(table)
        centred = inputs - inputs.mean(axis=0)
        share = np.eye(len(classes))[np.searchsorted(classes, label)]
        gram = centred.T @ centred + _PENALTY * len(table) * np.eye(centred.shape[1])
        told = np.linalg.solve(gram, centred.T @ (share - share.mean(axis=0)))[:, 1:]
        principal = np.linalg.svd(centred, full_matrices=False)[2][:components].T
        weight = np.concatenate([told, principal], axis=1)
        weight /= (centred @ weight).std(axis=0) + _LEAST
        return cls(blank.columns, blank.fill, blank.scale, weight)

    @property
    def names(self) -> tuple[str, ...]:
        """The meaning of each encoded column."""
        return tuple(f"encoder {self.sha256[:16]} {number + 1}" for number in range(self.weight.shape[1]))

    def encoded(self, table: Float) -> Float:
        """Returns float64 [n, r] for a table [n, k]; a row's code follows from that row."""
        gap = np.isnan(table)
        values = np.where(gap, 0.0, (table - self.fill) / self.scale)
        return np.asarray(np.concatenate([values, gap], axis=1) @ self.weight)

    def save(self, path: Path) -> str:
        """Writes a safetensors file and returns its SHA-256."""
        from safetensors.numpy import save

        arrays = {name: np.ascontiguousarray(getattr(self, name)) for name in ("fill", "scale", "weight")}
        content = save(arrays, {"format": "medtl table encoder 1", "columns": json.dumps(self.columns)})
        path.write_bytes(content)
        return hashlib.sha256(content).hexdigest()


def load_encoder(path: Path, sha256: str, columns: Sequence[str]) -> Encoder:
    """Returns the encoder in a file, once it is the one that was agreed and reads the agreed columns.

    Raises:
        WeightsError: the file is missing, is another one, or holds no encoder.
        DataError: it was fitted to other columns; the first one is named as both sides have it.
    """
    from safetensors import SafetensorError, safe_open

    try:
        content = path.read_bytes()
    except OSError as error:
        raise WeightsError(f"the encoder {path.name} that the schema names is not beside it") from error
    actual = hashlib.sha256(content).hexdigest()
    if actual != sha256:
        raise WeightsError(f"{path} is damaged or another file: SHA-256 {actual}, the schema says {sha256}")
    try:
        with safe_open(path, framework="numpy") as file:
            known = tuple(json.loads((file.metadata() or {})["columns"]))
            arrays = [file.get_tensor(name).astype(np.float64) for name in ("fill", "scale", "weight")]
    except (SafetensorError, KeyError, ValueError) as error:
        raise WeightsError(f"{path} holds no encoder of tables: {error}") from error
    pairs = zip(known, columns, strict=False)
    differ = next(((there, here) for there, here in pairs if there != here), None)
    if differ or len(known) != len(columns):
        there, here = differ or (f"{len(known)} columns", f"{len(columns)}")
        raise DataError(f"{path.name} was fitted to {there!r} where the schema has {here!r}")
    fill, scale, weight = arrays
    return Encoder(known, fill, scale, weight, actual)
