"""Medians and scales of a table's columns over all hospitals, from sums; and the columns as methods read them.

A mean and a standard deviation from two passes bracket every quartile (the median lies within one deviation of the
mean, a quartile within the root of three: Cantelli), and counts of the values below some edges narrow the brackets.
All in float64 on what was measured, so neither the unit nor a large offset takes a digit away.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from medtl_core.errors import DataError
from medtl_core.features.dataset import Material
from medtl_core.federation.feature_map import FeatureMap
from medtl_core.federation.hospitals import ArraySpec, Request
from medtl_core.federation.method import Study
from medtl_core.federation.tasks import Arrays, Config, SiteData
from medtl_core.heads.statistics import Float
from medtl_core.values import Array, Released, Update

PHASE = "table-scaling"

_QUARTILES = np.array([0.25, 0.5, 0.75])
#: Edges a column in each exchange of counts; after two, a quartile is known to 1/3000 of the standard deviation.
_EDGES = (255, 189)
#: Interquartile range of a normal distribution of standard deviation 1.
_NORMAL = 1.3489795003921634
#: Ranges below this share of the standard deviation say nothing: more than half of the values are one.
_LEAST = 1e-2


@dataclass(frozen=True)
class Scaling:
    """How columns are read: (value - centre) / scale, 0 where not measured, then 1 where not measured.

    Attributes:
        centre: float64 [k], medians of all hospitals' training cases.
        scale: float64 [k], from the quartiles, or the standard deviation where these fall together.
    """

    centre: Float
    scale: Float

    @property
    def arrays(self) -> Mapping[str, Array]:
        """As they are sent."""
        return {"centre": self.centre, "scale": self.scale}

    def inputs(self, table: Float) -> Float:
        """Returns float64 [n, 2 k] for a table [n, k], NaN where not measured."""
        gap = np.isnan(table)
        return np.concatenate([np.where(gap, 0.0, (table - self.centre) / self.scale), gap], axis=1)


def table_of(material: Material | None) -> Float:
    """Returns the table of some cases, float64 [n, k].

    Raises:
        DataError: they have none.
    """
    if material is None or "table" not in material.examples.columns:
        raise DataError("the cases hold no table; this method reads records (set backbone=table)")
    return np.asarray(material.examples["table"], np.float64)


def scaled(site: SiteData, arrays: Arrays, config: Config) -> tuple[Float, Array]:
    """Returns a hospital's training cases as inputs [n, 2 k] and their labels."""
    scaling = Scaling(arrays["centre"].astype(np.float64), arrays["scale"].astype(np.float64))
    return scaling.inputs(table_of(site.material)), site.label


#: Columns scaled by all hospitals together, and the diagnosis.
SCALED = FeatureMap("table", scaled)


def table_sums(site: SiteData, arrays: Arrays, config: Config) -> Released:
    """How many values of each column were measured, and the sums of their distances from `centre` [k] and squares."""
    apart = table_of(site.material) - arrays["centre"]
    known = ~np.isnan(apart)
    apart = np.where(known, apart, 0.0)
    sums = {"measured": known.sum(axis=0), "sum": apart.sum(axis=0), "square": np.square(apart).sum(axis=0)}
    return Released(Update({name: np.asarray(array, np.float64) for name, array in sums.items()}))


def table_below(site: SiteData, arrays: Arrays, config: Config) -> Released:
    """How many values of each column are at most each of its `edges` [k, m], float64 [k, m]."""
    table, edges = table_of(site.material), arrays["edges"]
    columns = [np.sort(column[~np.isnan(column)]) for column in table.T]
    below = [np.searchsorted(column, row, side="right") for column, row in zip(columns, edges, strict=True)]
    return Released(Update({"below": np.asarray(below, np.float64).reshape(edges.shape)}))


def scaling_of(study: Study) -> Scaling:
    """Returns medians and scales over all hospitals, asked for once a study: four exchanges (phase "table-scaling")."""
    return study.once(PHASE, lambda: _asked(study))


def _asked(study: Study) -> Scaling:
    taps = [(name.rpartition(":")[2], (stop - start) // 2) for name, start, stop in study.problem.groups]
    width = sum(columns for tap, columns in taps if tap.partition(".")[0] == "table")
    if not width:
        raise DataError("the agreed features hold no table; this method reads records (set backbone=table)")
    first = _sums(study, np.zeros(width))
    mean = first["sum"] / np.maximum(first["measured"], 1.0)
    second = _sums(study, mean)
    measured = second["measured"]
    deviation = np.sqrt(second["square"] / np.maximum(measured, 1.0))
    low, high = (np.repeat((mean + side * np.sqrt(3) * deviation)[:, None], 3, axis=1) for side in (-1, 1))
    for count in _EDGES:
        low, high = _narrowed(study, low, high, measured, count // 3)
    quartiles = (low + high) / 2
    scale = (quartiles[:, 2] - quartiles[:, 0]) / _NORMAL
    scale = np.where(scale > _LEAST * deviation, scale, deviation)
    return Scaling(quartiles[:, 1], np.where(scale > 0, scale, 1.0))


def _sums(study: Study, centre: Float) -> dict[str, Array]:
    shape = centre.shape

    def shapes(cases: int) -> dict[str, ArraySpec]:
        measured = ArraySpec(shape, least=0.0, most=cases, step=1.0)
        return {"measured": measured, "sum": ArraySpec(shape), "square": ArraySpec(shape, least=0.0)}

    return study.hospitals.total(Request("table_sums", {"centre": centre}, phase=PHASE, by_cases=shapes))


def _narrowed(study: Study, low: Float, high: Float, measured: Float, count: int) -> tuple[Float, Float]:
    """Brackets [k, 3] of the quartiles, `count` + 1 times narrower."""
    inner = low[..., None] + (high - low)[..., None] * (np.arange(count + 2) / (count + 1))
    edges = inner[..., 1:].reshape(len(low), -1)

    def shapes(cases: int) -> dict[str, ArraySpec]:
        return {"below": ArraySpec(edges.shape, least=0.0, most=cases, step=1.0)}

    asked = study.hospitals.total(Request("table_below", {"edges": edges}, phase=PHASE, by_cases=shapes))
    below = asked["below"].reshape(inner[..., 1:].shape)
    wanted = (_QUARTILES * np.maximum(measured, 1.0)[:, None])[..., None]
    place = np.minimum((below < wanted).sum(axis=2), count)[..., None]
    return tuple(np.take_along_axis(inner, place + step, axis=2)[..., 0] for step in (0, 1))  # type: ignore[return-value]


TASKS = {task.__name__: task for task in (table_sums, table_below)}
