"""Findings judged each by itself, against scikit-learn on the cases of which each is known; and from sums."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, balanced_accuracy_score, roc_auc_score

from medtl_core.evaluation.federated import contradiction, expected_shapes, summarise
from medtl_core.evaluation.intervals import bootstrap
from medtl_core.evaluation.judgement import Judgement
from medtl_core.evaluation.scores import each_finding, select
from medtl_core.rng import stream
from medtl_core.values import UNKNOWN, Scores, any_finding
from server.findings import judge_finding_sums, judge_findings

NAMES = ("edema", "effusion", "nodule", "rare")


def scored(cases: int = 400) -> Scores:
    """The last finding is there in no case."""
    rng = stream(0, "labels")
    labels = (rng.random((cases, 4)) < [0.5, 0.2, 0.1, 0.0]).astype(np.int8)
    odds = rng.normal(size=labels.shape) + 1.5 * labels
    labels[rng.random(labels.shape) < 0.25] = UNKNOWN
    site = np.where(np.arange(cases) < cases // 3, "a", "b")
    return Scores(odds, any_finding(labels), site, np.arange(cases) // 2, labels=labels)


def test_each_finding_is_scikit_learns_and_the_mean_is_of_those_that_can_be_judged() -> None:
    scores = scored()
    judged = judge_findings(scores, NAMES)
    assert scores.labels is not None
    rows = []
    for place, name in enumerate(NAMES[:3]):
        known = scores.labels[:, place] != UNKNOWN
        label, odds = scores.labels[known, place], scores.logits[known, place]
        figures = judged.by_label[name].figures
        assert figures["auroc"] == pytest.approx(roc_auc_score(label, odds))
        assert figures["auprc"] == pytest.approx(average_precision_score(label, odds))
        assert figures["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(label, odds > 0))
        assert figures["sensitivity"] == pytest.approx((odds[label == 1] > 0).mean())
        assert figures["specificity"] == pytest.approx((odds[label == 0] <= 0).mean())
        rows.append(figures)
    assert judged.by_label["rare"].figures["auroc"] is None
    for key in ("auroc", "auprc", "balanced_accuracy", "brier", "log_loss", "ece"):
        assert judged.figures[key] == pytest.approx(np.mean([row[key] for row in rows]))
    site = judge_findings(select(scores, scores.site == "a"), NAMES)
    assert judged.by_site["a"].auroc == pytest.approx(site.figures["auroc"])
    assert judged.figures["worst_site"] == min(row.balanced_accuracy for row in judged.by_site.values())  # type: ignore[type-var]
    assert Judgement.from_dict(judged.as_dict()).as_dict() == judged.as_dict()


def test_sums_of_hospitals_give_the_pooled_figures() -> None:
    scores = scored(2000)
    sums = {name: summarise(select(scores, scores.site == name)) for name in ("a", "b")}
    shapes = expected_shapes(4, multi_label=True)
    for update in sums.values():
        assert {name: array.shape for name, array in update.arrays.items()} == shapes
        assert contradiction({name: array[None] for name, array in update.arrays.items()}, 0) == ""
    apart, whole = judge_finding_sums(sums, NAMES), judge_findings(scores, NAMES)
    for key, value in whole.figures.items():
        assert apart.figures[key] == pytest.approx(value, abs=2e-3), key
    for name in NAMES[:3]:
        assert apart.by_label[name].figures["sensitivity"] == whole.by_label[name].figures["sensitivity"]
    assert apart.by_label["rare"].figures["auroc"] is None
    false = {**sums["a"].arrays, "confusion": sums["a"].arrays["confusion"] + 1.0}
    assert contradiction(false, 0)


def test_what_is_unknown_never_counts() -> None:
    scores = scored()
    assert scores.labels is not None
    odds = np.where(scores.labels == UNKNOWN, 1e3, scores.logits)
    assert (
        judge_findings(Scores(odds, *list(vars(scores).values())[1:]), NAMES).figures
        == judge_findings(scores, NAMES).figures
    )


def test_patients_are_drawn_whole_for_all_findings_together() -> None:
    scores, judged = scored(), judge_findings(scored(), NAMES)
    intervals = bootstrap(scores, ("auroc", "balanced_accuracy"), 100, rng=stream(0, "draws"))
    for key, (low, high) in intervals.items():
        assert low < judged.figures[key] < high  # type: ignore[operator]
        assert high - low < 0.2
    single = [bootstrap(part, ("auroc",), 100, rng=stream(0, "draws")) for _, part in each_finding(scores)]
    assert "auroc" not in single[3]
    assert all(low < high for each in single[:3] for low, high in each.values())
