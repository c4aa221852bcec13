"""A table as features: of every column its value, 0 if it is missing, and whether it is missing.

Columns named KIND:NAME, such as gene:X219340, are a group of features of their own beside those of other kinds.
`features=pairs` adds the product of every two columns, and their squares: a fault may lie in a product, such as that of
torque and speed, which no sum of columns tells.
"""

from collections.abc import Sequence
from itertools import groupby
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
        names = _named(columns)
        kinds = [name.partition(":")[0] if ":" in name else "" for name in names]
        groups = [(kind, sum(1 for _ in same)) for kind, same in groupby(kinds)]
        if len(groups) == 1 or len({*kinds}) < len(groups):  # one kind, or kinds that lie among each other
            groups = [("", len(names))]
        taps = tuple(f"table.{kind}" if kind else "table" for kind, _ in groups)
        channels = tuple(2 * count for _, count in groups)
        if "pairs" not in settings.features.split("+"):
            return Encoding(digest(names), taps, channels)
        products = len(names) * (len(names) + 1) // 2
        return Encoding(digest([*names, "pairs"]), (*taps, "pairs"), (*channels, products))

    def blank(self, columns: Sequence[str]) -> Array:
        """See `CaseEncoder`."""
        return np.zeros((1, len(_named(columns))))

    def rows(self, cases: Examples, encoding: Encoding, settings: Settings) -> Array:
        """See `CaseEncoder`."""
        table = np.asarray(cases["table"], dtype=np.float64)
        pairs = encoding.taps[-1] == "pairs"
        agreed = sum(encoding.channels[:-1] if pairs else encoding.channels) // 2
        if table.shape[1] != agreed:
            raise DataError(f"the table has {table.shape[1]} columns where {agreed} were agreed")
        missing = np.isnan(table)
        with np.errstate(over="ignore"):
            filled = np.where(missing, 0.0, table).astype(np.float32)
            one, other = np.triu_indices(table.shape[1] if pairs else 0)
            products = filled[:, one] * filled[:, other]
        for values in (filled, products):
            if not np.isfinite(values).all():
                column = int(np.flatnonzero(~np.isfinite(values).all(axis=0))[0])
                raise DataError(f"table column {column} holds values too large for float32; rescale it")
        told = np.stack([filled, missing.astype(np.float32)], axis=2).reshape(len(table), 2 * table.shape[1])
        return np.concatenate([told, products], axis=1)


def _named(columns: Sequence[str]) -> list[str]:
    """The table's own; a lead's begins with "signal:"."""
    return [name for name in columns if kind_of(name) != "signal"]


ENCODER = Columns()
