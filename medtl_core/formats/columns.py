"""A table as features: of every column its value, 0 if it is missing, and whether it is missing.

`features=pairs` adds the product of every two columns, and their squares: a fault may lie in a product, such as that of
torque and speed, which no sum of columns tells.
"""

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from medtl_core.config import Settings, kind_of
from medtl_core.errors import DataError
from medtl_core.features.encoders import CaseEncoder, Encoding
from medtl_core.values import Array, Examples, digest


class Columns(CaseEncoder):
    """The columns in their order."""

    column: ClassVar[str] = "table"
    kept: ClassVar[bool] = False

    def encoding(self, settings: Settings, columns: Sequence[str]) -> Encoding:
        """See `CaseEncoder`."""
        names, words = _named(columns), {*filter(None, settings.features.split("+"))}
        width = len(names)
        if "pairs" not in words:
            return Encoding(digest(names), ("table",), (2 * width,))
        return Encoding(digest([*names, "pairs"]), ("table", "pairs"), (2 * width, width * (width + 1) // 2))

    def blank(self, columns: Sequence[str]) -> Array:
        """See `CaseEncoder`."""
        return np.zeros((1, len(_named(columns))))

    def rows(self, cases: Examples, encoding: Encoding, settings: Settings) -> Array:
        """See `CaseEncoder`."""
        table = np.asarray(cases["table"], dtype=np.float64)
        if 2 * table.shape[1] != encoding.channels[0]:
            raise DataError(f"the table has {table.shape[1]} columns where {encoding.channels[0] // 2} were agreed")
        missing = np.isnan(table)
        with np.errstate(over="ignore"):
            filled = np.where(missing, 0.0, table).astype(np.float32)
        if not np.isfinite(filled).all():
            column = int(np.flatnonzero(~np.isfinite(filled).all(axis=0))[0])
            raise DataError(f"table column {column} holds values too large for float32; rescale it")
        values = np.stack([filled, missing.astype(np.float32)], axis=2).reshape(len(table), 2 * table.shape[1])
        if len(encoding.taps) == 1:
            return values
        one, other = np.triu_indices(table.shape[1])
        return np.concatenate([values, filled[:, one] * filled[:, other]], axis=1)


def _named(columns: Sequence[str]) -> list[str]:
    """The table's own; a lead's begins with "signal:"."""
    return [name for name in columns if kind_of(name) != "signal"]


ENCODER = Columns()
