"""Figures of some of the cases: by sex, age, device or any other column that the cases came with.

A group of fewer than 11 cases is not told (the cell rule of many statistical offices), nor then the next smallest, so
that no difference to the whole gives it away. No value of a column is a patient's unless a column tells patients apart;
so columns with many values are refused, and numbers are cut into bands.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from medtl_core.clinical.delong import areas, interval
from medtl_core.errors import ConfigError, did_you_mean
from medtl_core.evaluation.counts import confusion
from medtl_core.evaluation.judgement import Confusion
from medtl_core.evaluation.scores import select
from medtl_core.values import Array, Examples, Scores

#: Fewest cases of a group whose figures are told, and most groups of a column.
FEWEST, MOST = 11, 12
#: Where ages are cut, in years.
AGES = (18, 40, 60, 80)
#: Columns that are no description of a case.
_KEPT_BACK = ("patient", "label", "labels", "path", "image", "table", "time", "split")
MISSING = "not stated"


@dataclass(frozen=True)
class Group:
    """One group's figures; of a group too small to be told, its name alone.

    Attributes:
        value: of the column, or a band of numbers.
        cases: 0 = not told.
        area, low, high: mean AUROC over the classes with its interval.
        confusion: cases by class and answer; () of several findings.
    """

    value: str
    cases: int = 0
    area: float | None = None
    low: float | None = None
    high: float | None = None
    confusion: Confusion = ()


def named_columns(examples: Examples, table: Sequence[str], wanted: str) -> dict[str, Array]:
    """Returns the groups of each case (str [n]) for each column that a setting names, with commas between.

    Args:
        examples: the cases.
        table: names of the columns of `examples["table"]`.
        wanted: the setting.

    Raises:
        ConfigError: there is no such column, or it has too many values to be groups.
    """
    found = {}
    measured = [name.partition(" (")[0] for name in table]  # of records behind the name stand unit and limits
    offered = [name for name in examples.columns if name not in _KEPT_BACK] + measured
    for name in filter(None, (word.strip() for word in wanted.split(","))):
        if name in measured:
            place = measured.index(name)
            column = _as_measured(table[place], examples["table"][:, place])
        elif name in offered:
            column = examples[name]
        else:
            raise ConfigError(f"subgroups={name}: the test cases have no such column; {did_you_mean(name, offered)}")
        found[name] = _groups(name, column)
    return found


def judged_groups(scores: Scores, columns: Mapping[str, Array]) -> dict[str, tuple[Group, ...]]:
    """Returns every group's figures by column, groups in the order of their names."""
    return {name: tuple(_judged(scores, column)) for name, column in columns.items()}


def _as_measured(name: str, column: Array) -> Array:
    """Numbers of a record in their own unit again: its column's name says from which centre and in which scale."""
    found = re.search(r"about (\S+) by (\S+)\)$", name)
    return np.round(column * float(found[2]) + float(found[1]), 6) if found else column


def _judged(scores: Scores, column: Array) -> list[Group]:
    sizes = {str(value): int((column == value).sum()) for value in np.unique(column)}
    few = [value for value, size in sizes.items() if size < FEWEST]
    if len(few) == 1 and len(sizes) > 1:
        few.append(min((value for value in sizes if value not in few), key=lambda value: sizes[value]))
    return [Group(value) if value in few else _group(value, select(scores, column == value)) for value in sizes]


def _group(value: str, scores: Scores) -> Group:
    area, part = areas(scores).macro
    low, high = interval(area, float((part**2).sum())) or (None, None)
    told = () if scores.labels is not None else tuple(tuple(map(int, row)) for row in confusion(scores))
    return Group(value, len(scores.label), None if np.isnan(area) else area, low, high, told)


def _groups(name: str, column: Array) -> Array:
    """The group of each case: a band where values are numbers and many, else the value."""
    text = np.asarray([f"{value:g}" if isinstance(value, float) else str(value).strip() for value in column.tolist()])
    numbers = np.asarray([_number(word) for word in text.tolist()])
    empty = np.isnan(numbers) & np.isin(np.char.lower(text), ("", "nan", "none", "na", "unknown"))
    values = np.unique(text[~empty])
    if np.isnan(numbers[~empty]).any() or (len(values) <= MOST // 2 and "age" not in name.lower().split("_")):
        if len(values) > MOST:
            raise ConfigError(
                f"subgroups={name}: the column has {len(values)} values, at most {MOST} make groups; name another one"
            )
        return np.where(empty, MISSING, text)
    if "age" in name.lower().split("_"):
        edges = np.asarray(AGES, np.float64)
    else:
        edges = np.unique([float(f"{edge:.2g}") for edge in np.quantile(numbers[~empty], [1 / 3, 2 / 3])])
    return np.where(empty, MISSING, np.asarray(_bands(edges))[np.searchsorted(edges, numbers, "right")])


def _bands(edges: Array) -> list[str]:
    ends = [f"{edge:g}" for edge in edges]
    return [f"below {ends[0]}", *(f"{low} to below {high}" for low, high in pairwise(ends)), f"{ends[-1]} and more"]


def _number(word: str) -> float:
    try:
        return float(word)
    except ValueError:
        return float("nan")
