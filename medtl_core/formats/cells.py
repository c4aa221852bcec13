"""Columns of text in little more room than the file itself takes.

A Python text costs fifty bytes before its first sign, so a column is kept as long texts, one a block of the file, and
taken apart a block at a time.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import final

import numpy as np

#: Between the cells of a block: a file that holds one is refused.
_END = "\0"


@final
class Cells(Sequence[str]):
    """A column of stripped text.

    Attributes:
        blocks: cells of some rows as one text, with a sign between them that no cell holds.
    """

    def __init__(self, blocks: Sequence[str] = ()) -> None:
        self.blocks = blocks
        self._count = sum(block.count(_END) + 1 for block in blocks)

    @classmethod
    def of(cls, cells: Iterable[str]) -> "Cells":
        """Returns a column of one block."""
        block = [*cells]
        return cls([cls.join(block)] if block else [])

    @staticmethod
    def join(cells: Iterable[str]) -> str:
        """Returns the block of some cells, one at least."""
        return _END.join(cells)

    @staticmethod
    def split(block: str) -> list[str]:
        """Returns the cells of a block."""
        return block.split(_END)

    def with_sign(self, sign: str) -> Iterator[str]:
        """Yields the cells in which a sign stands; blocks without it cost next to nothing."""
        return (cell for block in self.blocks if sign in block for cell in self.split(block) if sign in cell)

    def lengths(self) -> "np.ndarray[tuple[int], np.dtype[np.int64]]":
        """Returns how many signs each cell has, int64 [n]."""
        return np.fromiter(map(len, self), np.int64, len(self))

    def __iter__(self) -> Iterator[str]:
        return chain.from_iterable(map(self.split, self.blocks))

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, place: int | slice) -> str | list[str]:  # type: ignore[override]
        return [*self][place]
