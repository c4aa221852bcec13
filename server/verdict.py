"""The central evaluation: every head and ensemble judged on the server's cases, or on sums from the hospitals."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from statistics import fmean
from typing import Any

from medtl_core.errors import ConfigError
from medtl_core.evaluation.federated import judge_sites
from medtl_core.evaluation.intervals import bootstrap, over_seeds
from medtl_core.evaluation.scores import judge
from medtl_core.federation.model import Classifier, Model
from medtl_core.federation.outcome import Outcome, Share
from medtl_core.federation.study import Asker, Study
from medtl_core.methods.core import Ensemble
from medtl_core.methods.mixture import Mixture
from medtl_core.rng import stream
from medtl_core.values import Head, Scores

from .ensembles import ensemble, mixture_remarks, summed_remarks
from .sums import SiteSums, evaluation_share, heads_judged, model_judged, personal_judged
from .testset import TestSet

#: Figures that get a patient-bootstrap interval.
INTERVALS = ("balanced_accuracy", "auroc")


@dataclass(frozen=True)
class Verdict:
    """How one method did.

    Attributes:
        kind: "federated", "local", "ensemble"...
        figures: name -> value or None where undefined.
        intervals: name -> (low, high).
        by_site: figures on each test site.
        curves: what the report draws.
        heads: that made it, by name; empty for ensembles.
        bill: what it needs of each phase.
        server_cpu: CPU seconds of the server.
        facts: remarks.
    """

    kind: str
    figures: Mapping[str, float | None]
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    by_site: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    curves: Mapping[str, Any] = field(default_factory=dict)
    heads: Mapping[str, Classifier] = field(default_factory=dict)
    bill: Mapping[str, Share] = field(default_factory=dict)
    server_cpu: float = 0.0
    facts: Mapping[str, Any] = field(default_factory=dict)


def judge_all(study: Study, cases: TestSet | None) -> dict[str, Verdict]:
    """Returns the verdict on every requested method, in the order asked for.

    Raises:
        ConfigError: a method can only be judged on cases that nobody here has.
    """
    for method in study.methods:
        _check_judges(method, at_server=cases is not None)
    ensembles = [method.name for method in study.methods if isinstance(method, Ensemble)]
    outcomes = {method.name: study.outcome(method) for method in study.methods if method.name not in ensembles}
    if cases is None:
        return _by_sums(study, outcomes)
    verdicts = {name: _central(outcome, cases, study) for name, outcome in outcomes.items()}
    for name in ensembles:
        scores, outcome = ensemble(name, study, outcomes, cases)
        verdicts[name] = _verdict(scores, "ensemble", outcome, study)
    return {name: verdicts[name] for name in study.names}


def _check_judges(method: Asker, *, at_server: bool) -> None:
    if method.test == "server" and not at_server:
        raise ConfigError(f"{method.name} needs labelled cases at the server; drop it or set test=server")
    if method.test == "sites" and at_server:
        raise ConfigError(f"{method.name} is judged by each hospital on its own cases; drop it or set test=sites")


def _central(outcome: Outcome, cases: TestSet, study: Study) -> Verdict:
    scores = {name: cases.scores(head.logits(cases.values, cases.material)) for name, head in outcome.heads.items()}
    if "" not in scores:
        return _mean_of_sites(outcome, scores)
    head = outcome.heads[""]
    if isinstance(head, Mixture):
        outcome = replace(outcome, facts={**outcome.facts, **mixture_remarks(head, scores[""], cases)})
    return _verdict(scores[""], "federated", outcome, study)


def _verdict(scores: Scores, kind: str, outcome: Outcome, study: Study) -> Verdict:
    found = judge(scores).as_dict()
    chosen = study.settings
    intervals = bootstrap(scores, INTERVALS, resamples=chosen.bootstrap, rng=stream(chosen.seed, "bootstrap"))
    return Verdict(
        kind, found["figures"], intervals, found["by_site"], found["curves"], outcome.heads, outcome.bill,
        outcome.server_cpu, outcome.facts,
    )  # fmt: skip


def _mean_of_sites(outcome: Outcome, scores: Mapping[str, Scores]) -> Verdict:
    """A method without exchange: the average hospital, each judged with the head it has."""
    found = {name: judge(part).as_dict()["figures"] for name, part in scores.items()}
    figures = {key: _mean([one[key] for one in found.values()]) for key in next(iter(found.values()))}
    figures["worst_site"] = min((one["balanced_accuracy"] for one in found.values()), default=None)
    intervals = {}
    for key in INTERVALS:
        values = [one[key] for one in found.values() if one[key] is not None]
        if len(values) > 1:
            intervals[key] = over_seeds(values)[1:]
    facts = {**outcome.facts, "interval": "t-interval over hospitals", "hospitals": found}
    return Verdict("local", figures, intervals, heads=outcome.heads, bill=outcome.bill, facts=facts)


def _by_sums(study: Study, outcomes: Mapping[str, Outcome]) -> dict[str, Verdict]:
    """The same figures from per-class histograms that hospitals sum over their own held-out cases."""
    affine = [
        (name, head) for name, outcome in outcomes.items() for head in outcome.heads.values() if isinstance(head, Head)
    ]
    shared = heads_judged(study, [head for _, head in affine]) if affine else []
    verdicts: dict[str, Verdict] = {}
    for name, outcome in outcomes.items():
        mine = [sums for (owner, _), sums in zip(affine, shared, strict=True) if owner == name]
        models = [head for head in outcome.heads.values() if isinstance(head, Model)]
        phase = f"evaluate-{name}" if models or outcome.personal else "evaluate"
        mine += [model_judged(study, model, phase) for model in models]
        if outcome.personal:
            mine.append(personal_judged(study, outcome.personal, phase))
        alone = models or outcome.personal
        bill = (
            {} if outcome.own_sums else {phase: Share() if alone else evaluation_share(study, len(mine), len(affine))}
        )
        verdict = _summed(study, outcome, mine or [outcome.own_sums], bill)
        for mixture in [head for head in models if isinstance(head, Mixture)]:
            told = summed_remarks(study, mixture, verdict.figures, f"remarks-{name}")
            verdict = replace(verdict, facts={**verdict.facts, **told})
        verdicts[name] = verdict
    return verdicts


def _summed(study: Study, outcome: Outcome, judged: list[SiteSums], bill: Mapping[str, Share]) -> Verdict:
    """The verdict from the hospitals' sums for each of a method's classifiers."""
    found = [judge_sites(sums, study.problem.classes).as_dict() for sums in judged]
    alone = len(found) > 1  # one head a hospital: only the average hospital is told
    return Verdict(
        "local" if alone or outcome.own_sums else "personal" if outcome.personal else "federated",
        {key: _mean([one["figures"][key] for one in found]) for key in found[0]["figures"]},
        by_site={} if alone else found[0]["by_site"],
        curves={} if alone else found[0]["curves"],
        heads=outcome.heads,
        bill={**outcome.bill, **bill},
        server_cpu=outcome.server_cpu,
        facts=outcome.facts,
    )


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None
