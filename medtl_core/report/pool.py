"""Curves and ledgers of several repetitions, joined into what one plot shows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from medtl_core.report.summary import Estimate, Result, estimate

#: The key of the curve over all sites together.
ALL = "all"

_BINS = 15
_GRID = 101


@dataclass(frozen=True)
class Bin:
    """One bin of a reliability diagram: mean confidence, share answered correctly, and number of cases."""

    confidence: float
    accuracy: float
    count: float


@dataclass(frozen=True)
class Exchange:
    """One round trip to all hospitals, averaged over the seeds that made it."""

    phase: str
    round: int
    seconds: float
    bytes_up: float
    bytes_down: float
    replies: float
    failures: float


@dataclass(frozen=True)
class SiteFigures:
    """How one method did on the test cases of one site."""

    balanced_accuracy: Estimate
    auroc: Estimate
    cases: float


def sites(results: Sequence[Result], method: str) -> list[str]:
    """Returns the sites a method was judged on, in name order."""
    return sorted({site for record in _records(results, method) for site in record.get("by_site", {})})


def by_site(results: Sequence[Result], method: str) -> dict[str, SiteFigures]:
    """Returns a method's figures on each site's own test cases."""
    found = {}
    for site in sites(results, method):
        rows = [record["by_site"][site] for record in _records(results, method) if site in record.get("by_site", {})]
        found[site] = SiteFigures(
            estimate([row.get("balanced_accuracy") for row in rows]),
            estimate([row.get("auroc") for row in rows]),
            float(np.mean([row.get("n") or row.get("cases") or 0 for row in rows])),
        )
    return found


def roc(results: Sequence[Result], method: str, site: str = ALL) -> tuple[list[float], list[float]] | None:
    """Returns false and true positive rates of one site, or None where no curve was drawn.

    Several seeds are averaged vertically: the mean true positive rate at each of 101 false positive rates
    (Fawcett 2006, "An introduction to ROC analysis", section 8).
    """
    curves = [record.get("curves", {}).get("roc", {}).get(site) for record in _records(results, method)]
    drawn = [np.asarray(curve, dtype=np.float64) for curve in curves if curve and len(curve[0]) > 1]
    if not drawn:
        return None
    if len(drawn) == 1:
        return _thinned(drawn[0])
    grid = np.linspace(0.0, 1.0, _GRID)
    mean = np.mean([np.interp(grid, *curve) for curve in drawn], axis=0)
    return [0.0, *grid.tolist()], [0.0, *mean.tolist()]


def reliability(results: Sequence[Result], method: str) -> list[Bin]:
    """Returns the non-empty bins of equal width over all seeds together."""
    sums = np.zeros((3, _BINS))
    for record in _records(results, method):
        curve = record.get("curves", {}).get("reliability")
        for confidence, accuracy, cases in zip(*curve, strict=True) if curve else ():
            if cases:
                place = min(int(confidence * _BINS), _BINS - 1)
                sums[:, place] += (cases * confidence, cases * accuracy, cases)
    filled = sums[:, sums[2] > 0]
    return [Bin(float(c / n), float(a / n), float(n)) for c, a, n in filled.T]


def exchanges(results: Sequence[Result]) -> list[Exchange]:
    """Returns the round trips of a run in order, each averaged over the seeds that made it."""
    rows: dict[tuple[str, int, int], list[Mapping[str, Any]]] = {}
    for result in results:
        seen: dict[tuple[str, int], int] = {}
        for row in result.get("phases", ()):
            place = (str(row["phase"]), int(row.get("round") or 0))
            seen[place] = seen.get(place, -1) + 1
            rows.setdefault((*place, seen[place]), []).append(row)
    return [_exchange(phase, number, same) for (phase, number, _), same in rows.items()]


def _exchange(phase: str, number: int, rows: Sequence[Mapping[str, Any]]) -> Exchange:
    def mean(key: str) -> float:
        # Replies and failures may be counts or lists of names.
        values = [row.get(key) or 0 for row in rows]
        return float(np.mean([len(value) if isinstance(value, list | tuple) else value for value in values]))

    return Exchange(
        phase, number, mean("seconds"), mean("bytes_up"), mean("bytes_down"), mean("replies"), mean("failures")
    )


def _records(results: Sequence[Result], method: str) -> list[Mapping[str, Any]]:
    return [result["methods"][method] for result in results if method in result["methods"]]


def _thinned(curve: "np.ndarray[Any, np.dtype[np.float64]]", most: int = 240) -> tuple[list[float], list[float]]:
    keep = np.unique(np.linspace(0, curve.shape[1] - 1, min(most, curve.shape[1])).round().astype(int))
    return curve[0, keep].tolist(), curve[1, keep].tolist()
