"""The central evaluation: every method judged on the server's cases, or on sums from the hospitals."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from medtl_core.errors import ConfigError
from medtl_core.evaluation.federated import contradiction, expected_shapes, judge_sites
from medtl_core.evaluation.intervals import bootstrap, over_seeds, within
from medtl_core.evaluation.judgement import Judgement
from medtl_core.evaluation.scores import each_finding, judge
from medtl_core.federation.hospitals import ArraySpec, Request, Value
from medtl_core.federation.model import Classifier, Model
from medtl_core.federation.outcome import Outcome, Share
from medtl_core.federation.study import Study
from medtl_core.predict.conformal import Conformal
from medtl_core.rng import stream
from medtl_core.values import Head, Scores, Update

from .findings import average, judge_finding_sums, judge_findings
from .testset import TestSet

#: What each hospital summed over its own held-out cases, by site.
SiteSums = Mapping[str, Update]

#: Figures that get a patient-bootstrap interval, and that of cases followed over time.
INTERVALS = ("balanced_accuracy", "auroc")
FOLLOWED = ("concordance",)


@dataclass(frozen=True)
class Verdict:
    """How one method did: "federated", "local", "personal" or "ensemble", its figures, and what it gave.

    The outcome's bill has the evaluation's share in it, and its facts the evaluation's remarks. Where one classifier
    was judged for all, `scores` of the server's cases or `sums` of the hospitals are what it was judged by.
    """

    kind: str
    judgement: Judgement
    outcome: Outcome
    scores: Scores | None = None
    sums: SiteSums = field(default_factory=dict)


def judge_all(study: Study, cases: TestSet | None) -> dict[str, Verdict]:
    """Returns the verdict on every requested method, in the order asked for.

    Raises:
        ConfigError: a method can only be judged on cases that nobody here has.
    """
    for method in study.methods:
        if method.test == "server" and cases is None:
            raise ConfigError(f"{method.name} needs labelled cases at the server; drop it or set test=server")
        if method.test == "sites" and cases is not None:
            raise ConfigError(f"{method.name} is judged by each hospital on its own cases; drop it or set test=sites")
    outcomes = {method.name: study.outcome(method) for method in study.methods}
    if cases is None:
        return _by_sums(study, outcomes)
    return {name: _on_cases(outcome, cases, study) for name, outcome in outcomes.items()}


# ---- on the server's cases ------------------------------------------------------------------------------------------


def _on_cases(outcome: Outcome, cases: TestSet, study: Study) -> Verdict:
    heads = _scores(outcome.heads, cases)
    if outcome.combine:
        scores, facts = outcome.combine(_scores(outcome.members, cases))
        outcome, kind = replace(outcome, facts={**outcome.facts, **facts}), "ensemble"
    elif "" in heads:
        scores, kind = heads[""], "federated"
        outcome = outcome if study.problem.multi_label else _promising(outcome, Conformal.of_scores(scores))
    else:
        return _mean_of_hospitals(outcome, heads, study.problem.classes)
    return Verdict(kind, _judged(scores, study), outcome, scores)


def _judge(scores: Scores, classes: Sequence[str]) -> Judgement:
    return judge(scores) if scores.labels is None else judge_findings(scores, classes)


def _judged(scores: Scores, study: Study) -> Judgement:
    """The figures of scored cases with their intervals, those of each finding too."""
    rng, resamples = stream(study.settings.seed, "bootstrap"), study.settings.bootstrap
    names = INTERVALS if scores.time is None else FOLLOWED
    whole, told = _judge(scores, study.problem.classes), bootstrap(scores, names, resamples, rng=rng)
    parts = zip(whole.by_label.items(), each_finding(scores), strict=True) if whole.by_label else ()
    labels = {
        name: replace(label, intervals=bootstrap(part, names, resamples, rng=rng)) for (name, label), (_, part) in parts
    }
    return replace(whole, intervals=told, by_label=labels)


def _promising(outcome: Outcome, conformal: Conformal) -> Outcome:
    """The same with floors for sets of classes among the facts of its head."""
    head: Any = outcome.heads[""]
    return replace(outcome, heads={"": replace(head, facts={**head.facts, "conformal": conformal.as_facts()})})


def _scores(classifiers: Mapping[str, Classifier], cases: TestSet) -> dict[str, Scores]:
    return {name: cases.scores(head.logits(cases.values, cases.material)) for name, head in classifiers.items()}


def _mean_of_hospitals(outcome: Outcome, scores: Mapping[str, Scores], classes: Sequence[str]) -> Verdict:
    """A method without exchange: the average hospital, each judged with the head it has."""
    judged = {name: _judge(part, classes) for name, part in scores.items()}
    hospitals, mean = {name: each.figures for name, each in judged.items()}, average([*judged.values()])
    figures = dict(mean.figures)
    names = FOLLOWED if FOLLOWED[0] in figures else INTERVALS
    defined = {key: [value for row in hospitals.values() if (value := row[key]) is not None] for key in names}
    figures["worst_site"] = min(defined[names[0]], default=None)
    intervals = {key: within(over_seeds(values)[1:]) for key, values in defined.items() if len(values) > 1}
    facts = {**outcome.facts, "interval": "t-interval over hospitals", "hospitals": hospitals}
    return Verdict("local", replace(mean, figures=figures, intervals=intervals), replace(outcome, facts=facts))


# ---- on sums from the hospitals -------------------------------------------------------------------------------------


def _by_sums(study: Study, outcomes: Mapping[str, Outcome]) -> dict[str, Verdict]:
    """The same figures from per-class histograms that hospitals sum over their own held-out cases.

    All affine heads travel in one exchange, of which every method bears its share.
    """
    affine = {
        name: [head for head in outcome.heads.values() if isinstance(head, Head)] for name, outcome in outcomes.items()
    }
    together = [head for heads in affine.values() for head in heads]
    sums = iter(_heads_judged(study, together) if together else ())
    judged = {name: [next(sums) for _ in heads] for name, heads in affine.items()}
    return {name: _summed(study, name, outcome, judged[name], len(together)) for name, outcome in outcomes.items()}


def _summed(study: Study, name: str, outcome: Outcome, judged: list[SiteSums], together: int) -> Verdict:
    """The verdict from the hospitals' sums for each of a method's classifiers."""
    models = [head for head in outcome.heads.values() if isinstance(head, Model)]
    alone = bool(models or outcome.personal)
    phase = f"evaluate-{name}" if alone else "evaluate"
    bill: dict[str, Share] = {}
    if not outcome.own_sums:
        bill[phase] = Share() if alone else _evaluation_share(study, len(judged), together)
    judged = judged + [_asked(study, model_request("evaluate_model", model, phase))[0] for model in models]
    if outcome.personal:
        judged.append(_asked(study, replace(outcome.personal, phase=phase))[0])
    judges = judge_finding_sums if study.problem.multi_label else judge_sites
    judgements = [judges(sums, study.problem.classes) for sums in judged or [outcome.own_sums]]
    several = len(judgements) > 1  # one head a hospital: only the average hospital is told
    if judged and not several and "" in outcome.heads and not study.problem.multi_label:
        positive = np.sum([sums.arrays["positive"] for sums in judged[0].values()], axis=0)
        outcome = _promising(outcome, Conformal.of_sums(positive))
    judgement = average(judgements) if several else judgements[0]
    kind = "local" if several or outcome.own_sums else "personal" if outcome.personal else "federated"
    summed = {} if several else (judged or [outcome.own_sums])[0]
    return Verdict(kind, judgement, replace(outcome, bill={**outcome.bill, **bill}), None, summed)


def _heads_judged(study: Study, heads: list[Head]) -> list[SiteSums]:
    """The sums of many affine heads, asked for in one exchange; a few kB a head."""
    stack = np.stack([np.concatenate([head.weight, head.bias[:, None]], axis=1) for head in heads])
    return _asked(study, Request("evaluate", {"heads": stack.astype(np.float32)}), len(heads))


def _evaluation_share(study: Study, heads: int, of: int) -> Share:
    """The share of a method whose heads were judged in one exchange with others."""
    classes = len(study.problem.classes)
    up = 8 * sum(math.prod(shape) for shape in _shapes(study).values())
    return Share.among(heads, of, up=up, down=4 * classes * (study.problem.width + 1))


def _shapes(study: Study) -> dict[str, tuple[int, ...]]:
    """The shapes of the sums that judge a classifier."""
    problem = study.problem
    return expected_shapes(len(problem.classes), problem.followed, problem.multi_label)


def model_request(task: str, model: Model, phase: str) -> Request:
    """Returns what takes a model to the hospitals."""
    packed = model.pack()
    config: dict[str, Value] = {"model-kind": model.kind, "model-fingerprint": packed.fingerprint}
    config |= {f"model-{key}": value for key, value in packed.config.items()}
    return Request(task, packed.arrays, config, phase=phase)


def _asked(study: Study, request: Request, heads: int = 1) -> list[SiteSums]:
    """Every hospital's sums on its own held-out cases, head by head."""
    expect = {name: ArraySpec((heads, *shape), least=0.0) for name, shape in _shapes(study).items()}
    replies = list(study.hospitals.ask(replace(request, expect=expect, check=contradiction)))
    return [
        {reply.site: Update({name: array[row] for name, array in reply.arrays.items()}) for reply in replies}
        for row in range(heads)
    ]
