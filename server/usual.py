"""Limits of a table's columns for the saved heads, from sums that the hospitals have sent anyway."""

from typing import Any, cast

import numpy as np

from medtl_core.federation.outcome import Moments
from medtl_core.federation.study import Study
from medtl_core.heads.statistics import TINY, Float, Statistics
from medtl_core.predict.usual import FAR, USUAL

#: Cases with a value below which nothing is told of a column, for it would be told of them.
_FEWEST = 10
#: Deviations from 0 below which a mean may be that of a column that is nearly always 0.
_SPARSE = 1 / 3


def usual(study: Study) -> dict[str, Any]:
    """Returns what manifests say of the table's columns; nothing under privacy, or where no sums of them came.

    A limit is the mean and ten standard deviations, outwards to three digits; of a column of 0 and 1 it is these two,
    and of one whose mean is near 0 so many deviations that no training case lies beyond.
    """
    place = [row for row in study.problem.groups if row[0].rpartition(":")[2].startswith("table")]
    sums = _came(study)
    if study.settings.privacy != "none" or not place or sums is None:
        return {}
    cases, columns = sums.counts.sum(), slice(place[0][1], place[-1][2])
    mean, square = sums.mean[columns], sums.mean[columns] ** 2 + np.maximum(sums.scale[columns] - TINY, 0.0) ** 2
    there = np.maximum(1.0 - mean[1::2], 1.0 / cases)  # the share of the cases with a value
    mean, square = mean[::2] / there, square[::2] / there
    spread = np.sqrt(np.maximum(square - mean**2, TINY**2))
    # of a column that is nearly always 0 the few other values lie far, but of n values none beyond sqrt(n) deviations
    # (Samuelson, "How deviant can you be?", 1968)
    wide = np.where(np.abs(mean) < _SPARSE * spread, np.sqrt(there * cases), 0.0)
    low, high = _outwards(mean, np.maximum(wide, FAR) * spread)
    flags = (np.abs(square - mean) < TINY) & (spread > 2 * TINY)
    told = np.round(there * cases) >= max(_FEWEST, study.settings.min_cell)
    limits = {"low": np.where(flags, 0.0, low), "high": np.where(flags, 1.0, high)}
    rows = {name: [float(f"{one:.12g}") for one in np.where(told, row, np.nan)] for name, row in limits.items()}
    known = {name: [None if np.isnan(one) else one for one in row] for name, row in rows.items()}
    return {USUAL: {**known, "always": (there > 1.0 - 0.5 / cases).tolist()}}


def _came(study: Study) -> Moments | Statistics | None:
    """The sums of the features of all training cases that some method has asked for; nothing is asked for this."""
    findings: Any = study.once("label_statistics", lambda: None)  # what methods.multilabel keeps under that name
    if findings is not None:
        return cast(Statistics, findings.shared.whole)
    return study.statistics if "sums" in vars(study) else study.moments if "moments" in vars(study) else None


def _outwards(mean: Float, width: Float) -> tuple[Float, Float]:
    """Lower and upper ends, with as many digits as the third of the width."""
    step = 10.0 ** (np.floor(np.log10(width)) - 2)
    return np.floor((mean - width) / step) * step, np.ceil((mean + width) / step) * step
