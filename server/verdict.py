"""The central evaluation: every head and ensemble judged on the server's cases, or on sums from the hospitals."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

import numpy as np

from medtl_core.ensemble import combine, cross_fitted, validation_weighted
from medtl_core.errors import ConfigError
from medtl_core.histogram import expected_shapes, judge_sites
from medtl_core.intervals import bootstrap, over_seeds
from medtl_core.methods.hospitals import ArraySpec, Request
from medtl_core.methods.study import Outcome, Share, Study
from medtl_core.metrics import judge
from medtl_core.rng import stream
from medtl_core.values import Head, Scores, Update

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
    heads: Mapping[str, Head] = field(default_factory=dict)
    bill: Mapping[str, Share] = field(default_factory=dict)
    server_cpu: float = 0.0
    facts: Mapping[str, Any] = field(default_factory=dict)


def judge_all(study: Study, cases: TestSet | None) -> dict[str, Verdict]:
    """Returns the verdict on every requested method, in the order asked for.

    Raises:
        ConfigError: an ensemble was asked for, but the server has no case to weigh its members on.
    """
    ensembles = [name for name in study.names if name.startswith("ensemble-")]
    if cases is None and ensembles:
        raise ConfigError(f"{ensembles[0]} needs labelled cases at the server; drop it or set test=server")
    outcomes = {name: study.outcome(name) for name in study.names if name not in ensembles}
    if cases is None:
        return _by_sums(study, outcomes)
    verdicts = {name: _central(outcome, cases, study) for name, outcome in outcomes.items()}
    if ensembles:
        verdicts |= _ensembles(ensembles, study, outcomes, cases)
    return {name: verdicts[name] for name in study.names}


def _central(outcome: Outcome, cases: TestSet, study: Study) -> Verdict:
    scores = {name: cases.scores(head.logits(cases.values)) for name, head in outcome.heads.items()}
    if "" not in scores:
        return _mean_of_sites(outcome, scores)
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


def _ensembles(names: list[str], study: Study, outcomes: Mapping[str, Outcome], cases: TestSet) -> dict[str, Verdict]:
    local = outcomes.get("local") or study.outcome("local")
    federated = {name: outcome.heads[""] for name, outcome in outcomes.items() if "" in outcome.heads}
    verdicts = {}
    for name in names:
        heads = {**local.heads, **(federated if name == "ensemble-all" else {})}
        members = {member: cases.scores(head.logits(cases.values)) for member, head in heads.items()}
        if name == "ensemble-local":
            scores, facts = combine(list(members.values())), {"weights": "equal"}
        else:
            scores, facts = cross_fitted(members, validation_weighted, seed=study.settings.seed)
        bill = dict(local.bill)
        if name == "ensemble-all":
            bill |= {phase: Share() for outcome in outcomes.values() for phase in outcome.bill}
        outcome = Outcome({}, bill, 0.0, {**facts, "members": list(members)})
        verdicts[name] = _verdict(scores, "ensemble", outcome, study)
    return verdicts


def _by_sums(study: Study, outcomes: Mapping[str, Outcome]) -> dict[str, Verdict]:
    """The same figures from per-class histograms that hospitals sum over their own held-out cases."""
    flat = [(name, key, head) for name, outcome in outcomes.items() for key, head in outcome.heads.items()]
    stack = np.stack([np.concatenate([head.weight, head.bias[:, None]], axis=1) for _, _, head in flat])
    classes = study.problem.classes
    shapes = expected_shapes(len(classes)).items()
    expect = {name: ArraySpec((len(flat), *shape)) for name, shape in shapes}
    request = Request("evaluate", arrays={"heads": stack.astype(np.float32)}, expect=expect)
    sites = {reply.site: reply.arrays for reply in study.hospitals.ask(request)}  # sums, a few kB a head
    verdicts: dict[str, Verdict] = {}
    for name, outcome in outcomes.items():
        rows = [row for row, (owner, _, _) in enumerate(flat) if owner == name]
        found = [_judged(sites, row, classes) for row in rows]
        figures = {key: _mean([one["figures"][key] for one in found]) for key in found[0]["figures"]}
        alone = len(rows) > 1  # one head a hospital: only the average hospital is told
        bill = {**outcome.bill, "evaluate": Share(work=len(rows) / len(flat))}
        verdicts[name] = Verdict(
            "local" if alone else "federated",
            figures,
            by_site={} if alone else found[0]["by_site"],
            curves={} if alone else found[0]["curves"],
            heads=outcome.heads,
            bill=bill,
            server_cpu=outcome.server_cpu,
            facts=outcome.facts,
        )
    return verdicts


def _judged(sites: Mapping[str, Mapping[str, Any]], row: int, classes: tuple[str, ...]) -> dict[str, Any]:
    """One head judged from every hospital's sums; the worst site is among those that show two classes."""
    updates = {site: Update({name: array[row] for name, array in arrays.items()}) for site, arrays in sites.items()}
    return judge_sites(updates, classes).as_dict()


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None
