"""The repetitions of a run, joined: the content of `metrics.json`, of the table in the terminal and of the page."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

from medtl_core.errors import RunError
from medtl_core.evaluation.judgement import Judgement, SiteJudgement
from medtl_core.evaluation.result import Cost, Result
from medtl_core.report.estimate import Estimate
from medtl_core.report.promise import promise_lines

#: Version of the layout of `metrics.json`.
SCHEMA = 1

#: Judged figures and their headings, in the order in which tables show them.
FIGURES: Mapping[str, str] = {
    "balanced_accuracy": "balanced accuracy",
    "auroc": "AUROC",
    "auprc": "AUPRC",
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "worst_site": "worst site",
    "ece": "calibration error",
    "brier": "Brier score",
}
#: The same of cases followed over time.
FOLLOWED: Mapping[str, str] = {
    "concordance": "concordance",
    "mean_of_sites": "mean of sites",
    "worst_site": "worst site",
}
#: Figures of which differences to hospitals that train alone are told.
_GAINS = ("balanced_accuracy", "auroc")


@dataclass(frozen=True)
class MethodSummary:
    """How one method did over the repetitions of a run: an estimate for each figure, and the mean cost.

    Attributes:
        kind: "federated", "local", "personal" or "ensemble".
        interval: what its intervals are, where they are of another kind than the run's.
        gains: figure -> difference to hospitals that train alone, paired by seed; None where there is no such method.
        taken: what it took of its candidates, and by how much these differ; "" = it weighs none.
        sites: concordance within each site, of cases followed over time.
        labels: of a multi-label task, finding -> figure -> estimate.
        hospitals: balanced accuracy on each hospital's own test cases, of those that show two classes at least.
    """

    kind: str
    figures: Mapping[str, Estimate]
    cost: Cost
    interval: str = ""
    gains: Mapping[str, Estimate] | None = None
    taken: str = ""
    sites: Mapping[str, Estimate] = field(default_factory=dict)
    labels: Mapping[str, Mapping[str, Estimate]] = field(default_factory=dict)
    hospitals: Mapping[str, float] = field(default_factory=dict)

    @property
    def mean_of_hospitals(self) -> Estimate:
        """The mean over hospitals, each counting alike, between the least and the largest; nothing of a single one."""
        values = list(self.hospitals.values())
        return Estimate(fmean(values), min(values), max(values)) if len(values) > 1 else Estimate()

    @property
    def below(self) -> tuple[str, ...]:
        """Hospitals at which the balanced accuracy lies below the interval of that of all cases."""
        pooled = self.figures.get("balanced_accuracy", Estimate())
        low = pooled.low if pooled.low is not None else pooled.mean
        several = low is not None and len(self.hospitals) > 1
        return tuple(name for name, value in self.hospitals.items() if several and value < (low or 0.0))

    def as_dict(self) -> dict[str, Any]:
        """Returns what `metrics.json` keeps."""
        return {
            "kind": self.kind,
            **_as_dicts(self.figures),
            **vars(self.cost),
            **({"interval": self.interval} if self.interval else {}),
            **({} if self.gains is None else {"versus_local": _as_dicts(self.gains)}),
            **({"taken": self.taken} if self.taken else {}),
            **({"by_site": _as_dicts(self.sites)} if self.sites else {}),
            **({"hospitals": dict(self.hospitals)} if self.hospitals else {}),
            **({"by_label": {name: _as_dicts(row) for name, row in self.labels.items()}} if self.labels else {}),
        }


@dataclass(frozen=True)
class Summary:
    """A run.

    Attributes:
        name: title of the report; may be empty.
        interval: what the intervals are.
        test_cases: of the server; 0 where hospitals judge.
        failures: replies that did not come or could not be used.
        methods: in the order asked for.
        contamination: a sentence, where a backbone learnt from the run's data.
        promise: sentences on what a private run promises to the patients.
    """

    name: str
    seeds: tuple[int, ...]
    interval: str
    classes: tuple[str, ...]
    hospitals: int
    test_cases: int
    failures: int
    methods: Mapping[str, MethodSummary]
    contamination: str = ""
    promise: tuple[str, ...] = ()

    @property
    def focus(self) -> str:
        """The method a report looks at closely: `auto` where it took part, else the best federated one."""
        if "auto" in self.methods and self.main != "concordance":
            return "auto"
        federated = [name for name in self.methods if role(name) == "federated"] or list(self.methods)
        return max(federated, key=lambda name: self.methods[name].figures[self.main].mean or 0.0)

    @property
    def headings(self) -> Mapping[str, str]:
        """The figures and their headings, in the order in which tables show them, the most important one first."""
        figures = next(iter(self.methods.values())).figures
        return FOLLOWED if "concordance" in figures else FIGURES

    @property
    def main(self) -> str:
        """The most important figure."""
        return next(iter(self.headings))

    @property
    def interval_words(self) -> str:
        """What the intervals are, naming the methods whose interval is of another kind."""
        others = {name: method.interval for name, method in self.methods.items() if method.interval}
        if len(others) == len(self.methods) and len({*others.values()}) == 1:
            return next(iter(others.values()))
        return "; ".join([self.interval, *(f"{name}: {words}" for name, words in others.items())])

    def as_dict(self) -> dict[str, Any]:
        """Returns what `metrics.json` keeps."""
        methods = {name: method.as_dict() for name, method in self.methods.items()}
        facts = {"name": self.name, "schema": SCHEMA, **vars(self), "methods": methods}
        return {key: value for key, value in facts.items() if value or key not in ("contamination", "promise")}


def role(name: str) -> str:
    """Returns what a method stands for: "federated", or a reference, "local" (no exchange) or "pooled" (no privacy).

    Example:
        >>> role("fedavg-20"), role("pooled-logistic")
        ('federated', 'pooled')
    """
    return next((kind for kind in ("local", "pooled") if name.split("-")[0] == kind), "federated")


def summarise(results: Sequence[Result], name: str = "", folder: Path | None = None) -> Summary:
    """Returns the summary of a run from the results of its repetitions, one per seed, and from its folder.

    With several seeds, a figure's interval is a t-interval over the seeds at which the figure is defined; with one, it
    is that seed's patient bootstrap, or there is none where none was taken.

    Raises:
        RunError: there is no result, two results share a seed, or they do not describe the same classes.
    """
    ordered = _checked(results)
    names = list(dict.fromkeys(name for result in ordered for name in result.methods))
    reference = next((name for name in names if role(name) == "local"), None)
    single = len(ordered) == 1
    return Summary(
        name=name,
        seeds=tuple(result.seed for result in ordered),
        interval="95% patient bootstrap of one seed" if single else f"95% t-interval over {len(ordered)} seeds",
        classes=ordered[0].classes,
        hospitals=len(ordered[0].sites),
        test_cases=ordered[0].test_cases,
        failures=sum(len(result.failures) for result in ordered),
        methods={name: _method(ordered, name, reference) for name in names},
        contamination=next((result.data.contamination for result in ordered if result.data.contamination), ""),
        promise=promise_lines(ordered, folder),
    )


def _checked(results: Sequence[Result]) -> list[Result]:
    if not results:
        raise RunError("there is no result to summarise; did every seed of the run fail?")
    for result in results:
        if result.classes != results[0].classes:
            raise RunError(f"seeds {results[0].seed} and {result.seed} name different classes; do not mix runs")
    ordered = sorted(results, key=lambda result: result.seed)
    seeds = [result.seed for result in ordered]
    if len(set(seeds)) < len(seeds):
        raise RunError(f"two results share a seed (seeds {seeds}); an interval over copies would be too narrow")
    return ordered


def _method(results: Sequence[Result], name: str, reference: str | None) -> MethodSummary:
    judged = [result.methods[name] for result in results if name in result.methods]
    # An interval from the bootstrap says how sure one seed is; it stands in only when there is no second seed.
    alone = judged[0].judgement.intervals if len(results) == 1 else {}

    costs = [vars(method.cost) for method in judged]
    means = {key: sum(cost[key] for cost in costs) / len(costs) for key in costs[0]}
    sizes = {key: round(means[key]) for key in ("bytes_up", "bytes_down")}
    return MethodSummary(
        kind=judged[0].kind,
        figures=_figures([method.judgement for method in judged], alone),
        cost=Cost(**means | sizes),
        interval=str(judged[0].facts.get("interval", "")) if alone else "",
        gains=None if reference is None or name == reference else _gains(results, name, reference),
        taken=_taken([method.facts for method in judged if "gains" in method.facts]),
        sites=_sites([method.judgement.by_site for method in judged]),
        labels=_labels([method.judgement for method in judged]),
        hospitals=_hospitals([method.judgement.by_site for method in judged]),
    )


def _figures(judged: Sequence[Judgement], alone: Mapping[str, tuple[float, float]]) -> dict[str, Estimate]:
    """The estimate of each figure; a single seed's interval is that of its bootstrap."""
    return {
        figure: Estimate.over(
            [judgement.figures.get(figure) for judgement in judged],
            alone.get(figure),
            (0.0, 2.0 if figure == "brier" else 1.0),
        )
        for figure in (FOLLOWED if "concordance" in judged[0].figures else FIGURES)
    }


def _labels(judged: Sequence[Judgement]) -> dict[str, dict[str, Estimate]]:
    labels = {name: [judgement.by_label[name] for judgement in judged] for name in judged[0].by_label}
    return {name: _figures(own, own[0].intervals if len(own) == 1 else {}) for name, own in labels.items()}


def _taken(facts: Sequence[Mapping[str, Any]]) -> str:
    """What was taken at how many seeds, and by how many nats candidates are better than the usual one, on average."""
    if not facts:
        return ""
    often = Counter(each["chosen"] for each in facts).most_common()
    seeds = f" at {{}} of {len(facts)} seeds" if len(facts) > 1 else ""
    apart = {
        name: [fmean(each["gains"][name][key] for each in facts) for key in ("gain", "error")]
        for name in facts[0]["gains"]
    }
    differences = ", ".join(f"{name} {gain:+.3f} ± {error:.3f}" for name, (gain, error) in apart.items())
    return ", ".join(name + seeds.format(times) for name, times in often) + f" (nats gained: {differences})"


def _sites(judged: Sequence[Mapping[str, SiteJudgement]]) -> dict[str, Estimate]:
    followed = dict.fromkeys(name for sites in judged for name, row in sites.items() if row.concordance is not None)
    return {
        name: Estimate.over([sites[name].concordance for sites in judged if name in sites], limits=(0.0, 1.0))
        for name in followed
    }


def _hospitals(judged: Sequence[Mapping[str, SiteJudgement]]) -> dict[str, float]:
    """Guessing the one class that a hospital shows would look perfect, so it needs two."""
    rows: dict[str, list[float]] = {}
    for sites in judged:
        for name, row in sites.items():
            if row.balanced_accuracy is not None and sum(any(line) for line in row.confusion) > 1:
                rows.setdefault(name, []).append(row.balanced_accuracy)
    return {name: fmean(values) for name, values in sorted(rows.items())}


def _gains(results: Sequence[Result], name: str, reference: str) -> dict[str, Estimate]:
    pairs = [
        (result.methods[name].judgement.figures, result.methods[reference].judgement.figures)
        for result in results
        if name in result.methods and reference in result.methods
    ]
    gains = {}
    followed = any("concordance" in there for there, _ in pairs)
    for figure in ("concordance",) if followed else _GAINS:
        values = [(there.get(figure), alone.get(figure)) for there, alone in pairs]
        differences = [None if a is None or b is None else a - b for a, b in values]
        gains[figure] = Estimate.over(differences, limits=(-1.0, 1.0))
    return gains


def _as_dicts(estimates: Mapping[str, Estimate]) -> dict[str, dict[str, Any]]:
    return {name: estimate.as_dict() for name, estimate in estimates.items()}
