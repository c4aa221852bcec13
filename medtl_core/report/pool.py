"""Curves, sites and exchanges of several repetitions, joined into what one plot shows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean

import numpy as np

from medtl_core.evaluation.formulas import Curve, mean_curve
from medtl_core.evaluation.judgement import ALL_SITES, Judgement
from medtl_core.evaluation.result import Result, RoundTrip
from medtl_core.report.estimate import Estimate

_BINS = 15


@dataclass(frozen=True)
class CalibrationBin:
    """One bin of a reliability diagram: mean confidence, share answered correctly, and number of cases."""

    confidence: float
    accuracy: float
    count: float


@dataclass(frozen=True)
class MeanExchange:
    """One round trip to all hospitals, averaged over the seeds that made it."""

    phase: str
    round: int
    seconds: float
    bytes_up: float
    bytes_down: float
    replies: float
    failures: float


@dataclass(frozen=True)
class SiteSummary:
    """How one method did on the test cases of one site."""

    balanced_accuracy: Estimate
    auroc: Estimate
    cases: float
    concordance: Estimate = field(default_factory=Estimate)


def by_site(results: Sequence[Result], method: str) -> dict[str, SiteSummary]:
    """Returns a method's figures on each site's own test cases, sites in name order."""
    judgements = _judgements(results, method)
    summaries = {}
    for site in sorted({site for judgement in judgements for site in judgement.by_site}):
        rows = [judgement.by_site[site] for judgement in judgements if site in judgement.by_site]
        summaries[site] = SiteSummary(
            Estimate.over([row.balanced_accuracy for row in rows]),
            Estimate.over([row.auroc for row in rows]),
            fmean(row.n for row in rows),
            Estimate.over([row.concordance for row in rows]),
        )
    return summaries


def largest(sites: Mapping[str, SiteSummary], most: int) -> dict[str, SiteSummary]:
    """Returns the sites with the most cases, as many as asked for, in their given order."""
    drawn = set(sorted(sites, key=lambda site: -sites[site].cases)[:most])
    return {site: summary for site, summary in sites.items() if site in drawn}


def roc(results: Sequence[Result], method: str, site: str = ALL_SITES) -> Curve | None:
    """Returns false and true positive rates of one site, or None where no curve was drawn.

    Several seeds are averaged vertically: the mean true positive rate at each of 101 false positive rates
    (Fawcett 2006, "An introduction to ROC analysis", section 8).
    """
    curves = [judgement.curves.roc.get(site) for judgement in _judgements(results, method) if judgement.curves]
    drawn = [np.asarray(curve, dtype=np.float64) for curve in curves if curve and len(curve[0]) > 1]
    if not drawn:
        return None
    if len(drawn) == 1:
        points = drawn[0].shape[1]
        thinned = drawn[0][:, np.unique(np.linspace(0, points - 1, min(240, points)).round().astype(int))]
        return thinned[0].tolist(), thinned[1].tolist()
    return mean_curve([(curve[0], curve[1]) for curve in drawn])


def reliability(results: Sequence[Result], method: str) -> list[CalibrationBin]:
    """Returns the non-empty bins of equal width over all seeds together."""
    sums = np.zeros((3, _BINS))
    for bins in (judgement.curves.reliability for judgement in _judgements(results, method) if judgement.curves):
        for confidence, accuracy, cases in zip(bins.confidence, bins.accuracy, bins.count, strict=True):
            if cases:
                place = min(int(confidence * _BINS), _BINS - 1)
                sums[:, place] += (cases * confidence, cases * accuracy, cases)
    filled = sums[:, sums[2] > 0]
    return [CalibrationBin(float(c / n), float(a / n), float(n)) for c, a, n in filled.T]


def exchanges(results: Sequence[Result]) -> list[MeanExchange]:
    """Returns the round trips of a run in order, each averaged over the seeds that made it."""
    rows: dict[tuple[str, int, int], list[RoundTrip]] = {}
    for result in results:
        seen: dict[tuple[str, int], int] = {}
        for row in result.exchanges:
            place = (row.phase, row.round)
            seen[place] = seen.get(place, -1) + 1
            rows.setdefault((*place, seen[place]), []).append(row)
    figures = ("seconds", "bytes_up", "bytes_down", "replies", "failures")
    return [
        MeanExchange(phase, number, *(fmean(getattr(row, figure) for row in same) for figure in figures))
        for (phase, number, _), same in rows.items()
    ]


def _judgements(results: Sequence[Result], method: str) -> list[Judgement]:
    return [result.methods[method].judgement for result in results if method in result.methods]
