"""Findings of images that may show several at once: one matrix, and the tasks that are made of it.

Labels that a program read from reports are known in four ways; what the matrix says of each is kept apart until a
policy is chosen.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medtl_core.data.catalog import Layout
from medtl_core.data.names import MISSING
from medtl_core.formats.table import CsvTable
from medtl_core.values import UNKNOWN, Array, any_finding

#: What a report says of a finding: it is there, it is not, it may be, or nothing.
PRESENT, ABSENT, UNCERTAIN, NOT_SAID = 1, 0, -1, -2
#: The word, and where findings are columns the column, by which a report says that it found none.
NO_FINDING = "No Finding"

_CODES = {"1": PRESENT, "0": ABSENT, "-1": UNCERTAIN}
_SEPARATOR = "|"


@dataclass(frozen=True)
class FindingMatrix:
    """What is known of every image and finding.

    Attributes:
        values: int8 [n, findings], of `PRESENT`, `ABSENT`, `UNCERTAIN` and `NOT_SAID`.
        wrong: bool [n, columns], the cells that say none of these.
        columns: the columns of the table that were read.
    """

    values: NDArray[np.int8]
    wrong: NDArray[np.bool_]
    columns: tuple[str, ...]

    def fault(self, table: CsvTable, rows: NDArray[np.bool_]) -> None:
        """Notes the cells that cannot be read, of a table that holds these rows (bool [n]) only."""
        what, remedy = "holds no label", "expected 1, 0, -1 (uncertain) or an empty cell"
        if len(self.columns) < self.values.shape[1]:
            what, remedy = "names no finding of the set", f"expected {NO_FINDING}, or some with {_SEPARATOR} between"
        for column, wrong in zip(self.columns, self.wrong[rows].T, strict=True):
            table.fault(column, wrong, what, remedy)


def finding_matrix(table: CsvTable, layout: Layout) -> FindingMatrix:
    """Returns the findings of every row, in the order of `layout.findings`.

    They stand in a column each (1.0, 0.0, -1.0 or empty), or all in the column `layout.label`, with bars between: then
    what is not named is absent.
    """
    if layout.label:
        return _named([*table.columns[layout.label]], layout)
    columns = [_coded(np.asarray([*table.columns[name]], np.str_)) for name in layout.findings]
    values = np.stack([values for values, _ in columns], axis=1)
    return FindingMatrix(values, np.stack([wrong for _, wrong in columns], axis=1), layout.findings)


def settled(values: NDArray[np.int8], layout: Layout) -> NDArray[np.int8]:
    """Returns the labels of a multi-label task (int8 [n, findings]): 1, 0, or `UNKNOWN` where the policy ignores it.

    What a report does not name counts as absent, as Irvin et al. (2019) train on it.

    Guarantee:
        Unit: patient. What a case becomes follows from its own row and the stated policy.
    """
    count = {"ones": 1, "zeros": 0, "ignore": UNKNOWN}
    unclear = [count[layout.uncertain.get(name, "ignore")] for name in layout.findings]
    labels = np.where(values == UNCERTAIN, np.asarray(unclear, np.int8), values)
    return np.where(values == NOT_SAID, np.int8(0), labels)


def unlabelled(matrix: FindingMatrix, layout: Layout) -> tuple[NDArray[np.bool_], str]:
    """Returns which cases (bool [n]) are left out, and in words why: no label at all, or an ignored one asked for."""
    values, why = matrix.values, "without any label"
    silent = (values == NOT_SAID).all(axis=1) & ~matrix.wrong.any(axis=1)
    if layout.finding and layout.uncertain.get(layout.finding, "ignore") == "ignore":
        asked = values[:, layout.findings.index(layout.finding)]
        return silent | (asked == UNCERTAIN), f"{why}, or whose report is uncertain of {layout.finding!r}"
    return silent, why


def one_label(values: NDArray[np.int8], layout: Layout) -> NDArray[np.int64]:
    """Returns the classes (int64 [n]) of one task made of the matrix, for cases that are labelled.

    With `layout.finding`, 1 where that is present, else 0. Without, 0 where the report says that it found none, 1 where
    there is any finding, or may be.
    """
    if layout.finding:
        return settled(values, layout)[:, layout.findings.index(layout.finding)].astype(np.int64)
    if NO_FINDING in layout.findings:
        return np.asarray(values[:, layout.findings.index(NO_FINDING)] != PRESENT, np.int64)
    return any_finding(values)


def _coded(cells: Array) -> tuple[NDArray[np.int8], NDArray[np.bool_]]:
    """One column's codes, and which cells hold none."""
    words, place = np.unique(cells, return_inverse=True)
    plain = [word.removesuffix(".0").removesuffix(".00") for word in words.tolist()]
    codes = [NOT_SAID if word.lower() in MISSING else _CODES.get(word, 2) for word in plain]
    known = np.asarray(codes, np.int8)[place]
    return np.where(known > PRESENT, np.int8(NOT_SAID), known), known > PRESENT


def _named(cells: Sequence[str], layout: Layout) -> FindingMatrix:
    """The findings that each cell names."""
    place = {name: number for number, name in enumerate(layout.findings)}
    values = np.full((len(cells), len(place)), ABSENT, np.int8)
    wrong = np.zeros((len(cells), 1), dtype=bool)
    for row, cell in enumerate(cells):
        for word in cell.split(_SEPARATOR):
            if word.strip() in place:
                values[row, place[word.strip()]] = PRESENT
            elif word.strip() != NO_FINDING:
                wrong[row] = True
    return FindingMatrix(values, wrong, (layout.label,))
