"""The record of figures for a clinic, `clinical.json` beside a run's `result.json`.

`result.json` holds what follows from counts of answers; what needs thresholds, pairs of methods or groups of cases
stands here. A run that was judged before it existed has none, and its report leaves these parts out.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np

from medtl_core.clinical import decision, delong
from medtl_core.clinical.placements import Spread
from medtl_core.clinical.ranking import Cell, Ranking, rankings, summed
from medtl_core.clinical.significance import holm
from medtl_core.clinical.subgroups import Group, judged_groups
from medtl_core.errors import RunError
from medtl_core.evaluation.counts import BINS, calibration_bins
from medtl_core.evaluation.formulas import Float
from medtl_core.evaluation.scores import select
from medtl_core.store import read_json
from medtl_core.values import Array, Scores, Update

#: Name of the file, and version of its layout.
CLINICAL, SCHEMA = "clinical.json", 1
#: At which specificities and sensitivities the other one is told.
LEVELS = (0.8, 0.9, 0.95)
#: Points of a curve that are kept.
_POINTS = 120


@dataclass(frozen=True)
class OperatingPoint:
    """A threshold that was set on training cases, each scored by a head that never saw it, and judged on test cases.

    Attributes:
        target: sensitivity that it was set for.
        floor: log-odds from which the class is answered, classes counting alike.
        folds, test: what comes out on the cases it was set on, and on the test cases.
    """

    target: float
    floor: float
    folds: Cell
    test: Cell


@dataclass(frozen=True)
class ClassRecord:
    """One class against all others.

    Attributes:
        positive, negative: cases of it, and others.
        area, low, high: AUROC and its interval; None = not defined.
        precision: average precision.
        at_specificity, at_sensitivity: level -> the threshold that does best on these very cases: it describes the
            curve and is no operating point.
        curve: false and true positive rates.
        benefit: net benefit of the model and of answering all cases with the class, by threshold probability.
        operating: None = none was set.
    """

    positive: int
    negative: int
    area: float | None = None
    low: float | None = None
    high: float | None = None
    precision: float | None = None
    at_specificity: Mapping[str, Cell] = field(default_factory=dict)
    at_sensitivity: Mapping[str, Cell] = field(default_factory=dict)
    curve: Sequence[Sequence[float]] = ((), ())
    benefit: Mapping[str, Sequence[float]] = field(default_factory=dict)
    operating: OperatingPoint | None = None


@dataclass(frozen=True)
class SiteTrust:
    """How sure a method was on one site's cases, summed, and how many it answered rightly."""

    cases: float
    confidence: float
    right: float


@dataclass(frozen=True)
class Coverage:
    """Sets of likely classes of one site's cases.

    Attributes:
        level: share of a class's cases whose set should hold it.
        cases: how many.
        held: those whose set holds the right class.
        named: classes in all sets.
    """

    level: float
    cases: float
    held: float
    named: float


@dataclass(frozen=True)
class MethodRecord:
    """One method.

    Attributes:
        classes: of two the second alone; findings of a multi-label task.
        area, low, high: mean AUROC over the classes.
        sites: of the test cases.
        kept: coverage and share answered rightly where only the most confident cases are answered.
        groups: column -> figures of its groups.
        likely: site -> what its sets of likely classes hold; empty where the head promises none.
    """

    classes: Mapping[str, ClassRecord]
    area: float | None = None
    low: float | None = None
    high: float | None = None
    sites: Mapping[str, SiteTrust] = field(default_factory=dict)
    kept: Sequence[tuple[float, float]] = ()
    groups: Mapping[str, Sequence[Group]] = field(default_factory=dict)
    likely: Mapping[str, Coverage] = field(default_factory=dict)


@dataclass(frozen=True)
class Clinical:
    """A study's record.

    Attributes:
        methods: those that were judged with one head for all.
        covariance: of their mean AUROCs, rows as `compared`; empty where hospitals judged.
        compared: names of its rows.
    """

    methods: Mapping[str, MethodRecord]
    covariance: Sequence[Sequence[float]] = ()
    compared: Sequence[str] = ()

    def against(self, focus: str) -> dict[str, tuple[delong.Difference, float]]:
        """Returns how much larger the mean AUROC of `focus` is than each other method's, and p after Holm's correction.

        Same test cases, DeLong's paired test.
        """
        rows = {name: place for place, name in enumerate(self.compared)}
        if focus not in rows:
            return {}
        mine, told = rows[focus], {}
        for name, other in rows.items():
            ours, theirs = self.methods[focus].area, self.methods[name].area
            table = self.covariance
            variance = table[mine][mine] + table[other][other] - 2 * table[mine][other]
            if name != focus and ours is not None and theirs is not None:
                told[name] = delong.difference(ours - theirs, variance)
        known = {name: test for name, test in told.items() if test is not None}
        adjusted = holm([test.p for test in known.values()]) if known else []
        return {name: (test, p) for (name, test), p in zip(known.items(), adjusted, strict=True)}

    def as_dict(self) -> dict[str, Any]:
        """Returns what `store.write_json` makes `clinical.json` of."""
        return {"schema": SCHEMA, **vars(self)}

    @classmethod
    def read(cls, folder: Path) -> Self | None:
        """Returns the record in a seed's folder; None where there is none.

        Raises:
            RunError: it is damaged or of another version.
        """
        path = folder / CLINICAL
        if not path.is_file():
            return None
        record = read_json(path)
        try:
            if record["schema"] != SCHEMA:
                raise RunError(f"{path} has schema {record['schema']!r}, this is schema {SCHEMA}; run the study again")
            methods = {name: _method(method) for name, method in record["methods"].items()}
            known = np.asarray(
                record["covariance"], np.float64
            ).tolist()  # null is not a number: too few cases of a class
            return cls(methods, known, tuple(record["compared"]))
        except (KeyError, TypeError, AttributeError) as error:
            raise RunError(f"{path} is not whole ({error}); run the study again") from error


# ---- made ------------------------------------------------------------------------------------------------------------


def of_scores(
    scored: Mapping[str, Scores], classes: tuple[str, ...], columns: Mapping[str, Array] | None = None
) -> Clinical:
    """Returns the record of methods judged on cases at hand.

    Args:
        scored: method -> scores of the same cases in the same order.
        classes: in the agreed order.
        columns: groups of the cases by column.
    """
    methods, parts = {}, {}
    for name, scores in scored.items():
        found = delong.areas(scores)
        area, parts[name] = found.macro
        each, common = rankings(scores, classes), rankings(decision.at_prevalence(scores), classes)
        rows = {
            key: _class(ranking, float(variance), common[key])
            for (key, ranking), variance in zip(each.items(), found.variance, strict=True)
        }
        sites, kept = {}, list[tuple[float, float]]()
        if scores.labels is None:
            bins = {str(site): calibration_bins(select(scores, scores.site == site)) for site in np.unique(scores.site)}
            sites, kept = {site: _trust(table) for site, table in bins.items()}, decision.kept_right(scores)
        groups = judged_groups(scores, columns or {})
        methods[name] = MethodRecord(rows, *_estimate(area, float((parts[name] ** 2).sum())), sites, kept, groups)
    table = delong.covariance(parts).tolist() if parts else []
    return Clinical(methods, table, tuple(parts))


def of_sums(
    sums: Mapping[str, Mapping[str, Update]],
    classes: tuple[str, ...],
    *,
    findings: bool = False,
    spreads: Sequence[Spread] = (),
) -> Clinical:
    """Returns the record of methods judged by hospitals' sums: method -> site -> `evaluation.federated.summarise`.

    A method that none of `spreads` tells has intervals that take cases as independent, and its mean over classes none.
    Differences are told of the methods of the first. Net benefit among three and more classes needs scores.
    """
    methods, first = {}, spreads[0] if spreads else None
    for name, updates in sums.items():
        each = summed(updates, classes, findings=findings)
        pair, told = findings or len(classes) == 2, next(filter(None, (one.of_method(name) for one in spreads)), None)
        alone = [delong.ranked_variance(ranking) for ranking in each.values()]
        rows = {
            key: _class(ranking, variance, decision.shifted(ranking) if pair else None)
            for (key, ranking), variance in zip(each.items(), told[0].tolist() if told else alone, strict=True)
        }
        known = [row.area for row in rows.values() if row.area is not None]
        bins = {} if findings else {site: update.arrays["calibration"] for site, update in updates.items()}
        kept = decision.kept_right_sums(sum(bins.values(), np.zeros((3, BINS))))
        sites = {site: _trust(table) for site, table in bins.items()}
        area = float(np.mean(known)) if known else None
        variance = told[1] if told else alone[0] if len(alone) == 1 else np.nan
        methods[name] = MethodRecord(rows, *_estimate(np.nan if area is None else area, variance), sites, kept)
    return Clinical(methods, first.covariance.tolist(), first.names) if first else Clinical(methods)


def operating_point(folds: Ranking, test: Ranking, target: float) -> OperatingPoint | None:
    """Returns the threshold that finds a share of the class on held-out folds, judged on test cases.

    None where the folds show no case of the class, or the test no case of either side.
    """
    if not folds.support[0] or not all(test.support):
        return None
    floor = folds.floor_for(target)
    return OperatingPoint(target, floor if np.isfinite(floor) else -1e9, folds.at(floor), test.at(floor))


def _class(ranking: Ranking, variance: float, common: Ranking | None) -> ClassRecord:
    sides = all(ranking.support)
    specific = {f"{level:g}": cell for level in LEVELS if (cell := ranking.most_sensitive(level))}
    sensitive = {f"{level:g}": cell for level in LEVELS if (cell := ranking.most_specific(level))}
    benefit: dict[str, Sequence[float]] = {}
    if sides and common is not None:
        everyone = decision.everyone_treated(ranking.support[0] / sum(ranking.support))
        model = decision.net_benefit(common)
        benefit = {"threshold": decision.THRESHOLDS, "model": model, "everyone": everyone}
    precision = ranking.precision if sides else None
    estimate = _estimate(ranking.area, variance)
    return ClassRecord(
        *ranking.support, *estimate, precision, specific, sensitive, _curve(ranking) if sides else ((), ()), benefit
    )


def _curve(ranking: Ranking) -> tuple[list[float], list[float]]:
    found, spared = (side[::-1] for side in ranking.rates())
    places = np.unique(np.linspace(0, len(found) - 1, min(_POINTS, len(found))).round().astype(int))
    return (1.0 - spared[places]).tolist(), found[places].tolist()


def _estimate(area: float, variance: float) -> tuple[float | None, float | None, float | None]:
    if np.isnan(area):
        return None, None, None
    return (area, *(delong.interval(area, variance) or (None, None)))


def _trust(bins: Float) -> SiteTrust:
    cases, confidence, right = np.asarray(bins).sum(axis=1).tolist()
    return SiteTrust(cases, confidence, right)


# ---- read back -------------------------------------------------------------------------------------------------------


def _method(record: Mapping[str, Any]) -> MethodRecord:
    return MethodRecord(
        **{
            **record,
            "classes": {name: _class_of(row) for name, row in record["classes"].items()},
            "sites": {name: SiteTrust(**row) for name, row in record["sites"].items()},
            "kept": [(pair[0], pair[1]) for pair in record["kept"]],
            "groups": {name: tuple(map(_group, rows)) for name, rows in record["groups"].items()},
            "likely": {name: Coverage(**row) for name, row in record.get("likely", {}).items()},
        }
    )


def _group(record: Mapping[str, Any]) -> Group:
    return Group(**{**record, "confusion": tuple(map(tuple, record["confusion"]))})


def _class_of(record: Mapping[str, Any]) -> ClassRecord:
    point = record["operating"]
    levels = {
        side: {level: Cell(**cell) for level, cell in record[side].items()}
        for side in ("at_specificity", "at_sensitivity")
    }
    if point is not None:
        point = OperatingPoint(**{**point, "folds": Cell(**point["folds"]), "test": Cell(**point["test"])})
    return ClassRecord(**{**record, **levels, "operating": point})
