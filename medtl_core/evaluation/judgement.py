"""The record of a judgement: every figure of merit of one method, as scored, written, read back and reported."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from medtl_core.evaluation.formulas import Curve, Figure

#: Key of the curve over all sites together.
ALL_SITES = "all"
#: Cases by true class (row) and answer (column), in the agreed order; () = not counted.
Confusion = tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class SiteJudgement:
    """A method on one site's test cases: figures, None where undefined, the number of cases, and their answers."""

    balanced_accuracy: Figure
    auroc: Figure
    n: int
    concordance: Figure = None
    confusion: Confusion = ()

    def as_dict(self) -> dict[str, Any]:
        """Returns the figures as `result.json` keeps them; a concordance only where cases were followed over time."""
        left = ("concordance", None), ("confusion", ())
        return {name: value for name, value in vars(self).items() if (name, value) not in left}


@dataclass(frozen=True)
class Reliability:
    """Calibration bins that hold a case: mean confidence, share answered correctly and number of cases of each."""

    confidence: Sequence[float] = ()
    accuracy: Sequence[float] = ()
    count: Sequence[int] = ()


@dataclass(frozen=True)
class Curves:
    """What a report draws: reliability over all sites, and the ROC curves (false and true positive rates).

    `roc` holds `ALL_SITES` and each site, or the findings of a multi-label task; those without a curve are missing.
    """

    roc: Mapping[str, Curve] = field(default_factory=dict)
    reliability: Reliability = Reliability()


@dataclass(frozen=True)
class Judgement:
    """All figures of one method; without sites and curves where only the average hospital is judged.

    Attributes:
        figures: those of `counts.FIGURES` and worst_site, the lowest balanced accuracy of the sites that show at least
            two classes; None where the cases do not define one. Of cases followed over time, see `concordance`.
        by_site: figures on each site's own cases, in name order.
        intervals: name of a figure -> 95 % interval (low, high), for the figures that have one.
        confusion: all cases by class and answer.
        by_label: of a multi-label task, each finding judged by itself; `figures` are then their means.
    """

    figures: Mapping[str, Figure]
    by_site: Mapping[str, SiteJudgement] = field(default_factory=dict)
    curves: Curves | None = None
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    by_label: Mapping[str, "Judgement"] = field(default_factory=dict)
    confusion: Confusion = ()

    def as_dict(self) -> dict[str, Any]:
        """Returns the judgement as `result.json` keeps it, JSON-able."""
        curves = self.curves
        return {
            "figures": dict(self.figures),
            "intervals": {name: list(pair) for name, pair in self.intervals.items()},
            "by_site": {site: row.as_dict() for site, row in self.by_site.items()},
            **({"confusion": self.confusion} if self.confusion else {}),
            **({"by_label": {name: part.as_dict() for name, part in self.by_label.items()}} if self.by_label else {}),
            "curves": {}
            if curves is None
            else {
                "roc": {site: [list(axis) for axis in curve] for site, curve in curves.roc.items()},
                "reliability": [list(axis) for axis in vars(curves.reliability).values()],
            },
        }

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Self:
        """Returns the judgement that `as_dict` took apart; what the record leaves out is empty."""
        curves = record.get("curves")
        return cls(
            dict(record["figures"]),
            {
                site: SiteJudgement(**{**row, "confusion": tuple(map(tuple, row.get("confusion", ())))})
                for site, row in record.get("by_site", {}).items()
            },
            Curves(
                {site: (list(curve[0]), list(curve[1])) for site, curve in curves.get("roc", {}).items()},
                Reliability(*curves.get("reliability", ())),
            )
            if curves
            else None,
            {name: (pair[0], pair[1]) for name, pair in record.get("intervals", {}).items()},
            {name: cls.from_dict(part) for name, part in record.get("by_label", {}).items()},
            tuple(map(tuple, record.get("confusion", ()))),
        )
