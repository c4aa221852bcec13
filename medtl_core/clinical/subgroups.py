"""Figures of some of the cases: by sex, age, device or any other column that the cases came with.

A group of fewer than 11 cases is not told (the cell rule of many statistical offices), nor then the next smallest, so
that no difference to the whole gives it away. No value of a column is a patient's unless a column tells patients apart;
so columns with many values are refused, and numbers are cut into bands.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from medtl_core.clinical.delong import areas, interval, ranked_variance
from medtl_core.clinical.ranking import summed
from medtl_core.errors import ConfigError, did_you_mean
from medtl_core.evaluation.counts import confusion
from medtl_core.evaluation.judgement import Confusion
from medtl_core.evaluation.scores import select
from medtl_core.values import Array, Examples, Scores, Update

#: Fewest cases of a group whose figures are told, and most groups of a column.
FEWEST, MOST = 11, 12
#: Where ages are cut, in years.
AGES = (18, 40, 60, 80)
#: Columns that are no description of a case.
_KEPT_BACK = ("patient", "label", "labels", "path", "image", "table", "time", "split")
MISSING = "not stated"
#: What a hospital calls cases of none of the groups that were stated for it.
OTHER = "other or not stated"


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
    offered, found = _offered(examples, table), {}
    for name, stated in _words(wanted):
        if name not in offered:
            raise ConfigError(f"subgroups={name}: the test cases have no such column; {did_you_mean(name, offered)}")
        column = offered[name]
        found[name] = _placed(column, _bounds(name, stated)) if stated else _groups(name, column)
    return found


def stated_groups(wanted: str) -> dict[str, tuple[str, ...]]:
    """Returns the groups of each column as a setting states them, for hospitals that tell nobody their values.

    Of a column of ages the usual bands, of others what stands behind it: "sex:f|m,bmi:<25<30".

    Raises:
        ConfigError: a column has no stated groups.

    Example:
        >>> stated_groups("sex:f|m,bmi:<25<30")["bmi"]
        ('below 25', '25 to below 30', '30 and more', 'other or not stated')
    """
    found = {}
    for name, stated in _words(wanted):
        if not stated and not _is_age(name):
            raise ConfigError(
                f"subgroups={name}: with test=sites nobody here sees the values; state them, {name}:a|b or {name}:<5<9"
            )
        names, edges = _bounds(name, stated)
        found[name] = (*(names if edges is None else _bands(edges)), OTHER)
    return found


def told_groups(examples: Examples, table: Sequence[str], wanted: str) -> Array:
    """Returns which cases are in each stated group that a hospital tells, bool [G, n], all columns' one after another.

    A group of fewer than 11 of its cases is not told, nor, if it is one alone, the next smallest: what others add to a
    sum may be known. Nor is one of a column that the hospital does not have.
    """
    offered, rows = _offered(examples, table), list[Array]()
    for name, stated in _words(wanted):
        names = stated_groups(f"{name}:{stated}" if stated else name)[name]
        column = _placed(offered[name], _bounds(name, stated)) if name in offered else np.full(len(examples), "")
        few = _few({value: int((column == value).sum()) for value in names})
        rows += [(column == value) & (value not in few) for value in names]
    return np.stack(rows)


def judged_groups(scores: Scores, columns: Mapping[str, Array]) -> dict[str, tuple[Group, ...]]:
    """Returns every group's figures by column, groups in the order of their names."""
    return {name: tuple(_judged(scores, column)) for name, column in columns.items()}


def _as_measured(name: str, column: Array) -> Array:
    """Numbers of a record in their own unit again: its column's name says from which centre and in which scale."""
    found = re.search(r"about (\S+) by (\S+)\)$", name)
    return np.round(column * float(found[2]) + float(found[1]), 6) if found else column


def _judged(scores: Scores, column: Array) -> list[Group]:
    sizes = {str(value): int((column == value).sum()) for value in np.unique(column)}
    few = _few(sizes)
    return [Group(value) if value in few else _group(value, select(scores, column == value)) for value in sizes]


def _few(sizes: Mapping[str, int]) -> list[str]:
    """The groups that are not told for their size, of those that have a case."""
    shown = {value: size for value, size in sizes.items() if size}
    few = [value for value, size in shown.items() if size < FEWEST]
    if len(few) == 1 and len(shown) > 1:
        few.append(min((value for value in shown if value not in few), key=lambda value: shown[value]))
    return few


def summed_group(value: str, sums: Update, classes: tuple[str, ...], *, findings: bool = False) -> Group:
    """Returns a group's figures from hospitals' sums of it (see `evaluation.federated.summarise`).

    Cases count as independent, and the interval of a mean over classes takes them as wholly correlated, so that it is
    never too narrow for that. Of findings its cases are those of the one that is known of most.
    """
    table = sums.arrays["confusion"]
    cases = int(table.sum(axis=(-2, -1)).max())
    if not cases:
        return Group(value)
    known = [each for each in summed({"": sums}, classes, findings=findings).values() if all(each.support)]
    area = float(np.mean([each.area for each in known])) if known else None
    spread = float(np.mean([math.sqrt(ranked_variance(each)) for each in known])) ** 2 if known else math.nan
    low, high = (area is not None and interval(area, spread)) or (None, None)
    told = () if findings else tuple(tuple(map(int, row)) for row in table)
    return Group(value, cases, area, low, high, told)


def _group(value: str, scores: Scores) -> Group:
    area, part = areas(scores).macro
    low, high = interval(area, float((part**2).sum())) or (None, None)
    told = () if scores.labels is not None else tuple(tuple(map(int, row)) for row in confusion(scores))
    return Group(value, len(scores.label), None if np.isnan(area) else area, low, high, told)


def _groups(name: str, column: Array) -> Array:
    """The group of each case: a band where values are numbers and many, else the value."""
    text, numbers = _read(column)
    empty = np.isnan(numbers) & np.isin(np.char.lower(text), ("", "nan", "none", "na", "unknown"))
    values = np.unique(text[~empty])
    if np.isnan(numbers[~empty]).any() or (len(values) <= MOST // 2 and not _is_age(name)):
        if len(values) > MOST:
            raise ConfigError(
                f"subgroups={name}: the column has {len(values)} values, at most {MOST} make groups; name another one"
            )
        return np.where(empty, MISSING, text)
    if _is_age(name):
        edges = np.asarray(AGES, np.float64)
    else:
        edges = np.unique([float(f"{edge:.2g}") for edge in np.quantile(numbers[~empty], [1 / 3, 2 / 3])])
    return np.where(empty, MISSING, np.asarray(_bands(edges))[np.searchsorted(edges, numbers, "right")])


def _words(wanted: str) -> list[tuple[str, str]]:
    """Columns of a setting, and what is stated of each."""
    words = [word.strip().partition(":") for word in wanted.split(",") if word.strip()]
    return [(name.strip(), stated.strip()) for name, _, stated in words]


def _bounds(name: str, stated: str) -> tuple[tuple[str, ...], Array | None]:
    """Values that make groups, or edges of bands; of ages without a word the usual ones."""
    if not stated:
        return (), np.asarray(AGES, np.float64)
    if not stated.startswith("<"):
        values = tuple(dict.fromkeys(filter(None, (word.strip() for word in stated.split("|")))))
        if not 1 <= len(values) <= MOST:
            raise ConfigError(f"subgroups={name}:{stated}: state 1 to {MOST} values with | between")
        return values, None
    edges = np.asarray([_number(word) for word in stated[1:].split("<")])
    if np.isnan(edges).any() or (np.diff(edges) <= 0).any() or len(edges) >= MOST:
        raise ConfigError(f"subgroups={name}:{stated}: state rising numbers, such as {name}:<25<30")
    return (), edges


def _placed(column: Array, bounds: tuple[tuple[str, ...], Array | None]) -> Array:
    """The group of each case among stated ones."""
    (names, edges), (text, numbers) = bounds, _read(column)
    if edges is None:
        return np.where(np.isin(text, names), text, OTHER)
    return np.where(np.isnan(numbers), OTHER, np.asarray(_bands(edges))[np.searchsorted(edges, numbers, "right")])


def _offered(examples: Examples, table: Sequence[str]) -> dict[str, Array]:
    """Columns that may make groups, by the names under which a setting knows them."""
    free = {name: column for name, column in examples.columns.items() if name not in _KEPT_BACK}
    # of records behind the name stand unit and limits
    measured = {name.partition(" (")[0]: (place, name) for place, name in enumerate(table)}
    rows = {short: _as_measured(name, examples["table"][:, place]) for short, (place, name) in measured.items()}
    return {**free, **rows}


def _read(column: Array) -> tuple[Array, Array]:
    """Values as text, and as numbers."""
    text = np.asarray([f"{value:g}" if isinstance(value, float) else str(value).strip() for value in column.tolist()])
    return text.astype(np.str_), np.asarray([_number(word) for word in text.tolist()])


def _is_age(name: str) -> bool:
    return "age" in name.lower().split("_")


def _bands(edges: Array) -> list[str]:
    ends = [f"{edge:g}" for edge in edges]
    return [f"below {ends[0]}", *(f"{low} to below {high}" for low, high in pairwise(ends)), f"{ends[-1]} and more"]


def _number(word: str) -> float:
    try:
        return float(word)
    except ValueError:
        return float("nan")
