"""Each class's own figures against scikit-learn and scipy, and what the report and the terminal say of hospitals."""

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.metrics import classification_report, confusion_matrix, matthews_corrcoef

from medtl_core.evaluation.federated import judge_sites, summarise
from medtl_core.evaluation.judgement import Judgement
from medtl_core.evaluation.scores import judge, select
from medtl_core.report.classes import class_figures, wilson
from medtl_core.values import Scores

NAMES = ("a", "b", "c")


def scored(cases: int = 200, seed: int = 0) -> Scores:
    rng = np.random.default_rng(seed)
    label = rng.choice(3, cases, p=[0.6, 0.3, 0.1])
    logits = rng.normal(size=(cases, 3)) + np.eye(3)[label]
    return Scores(logits, label, np.where(rng.random(cases) < 0.7, "north", "south"), np.arange(cases))


def test_figures_of_a_class_are_scikit_learns() -> None:
    scores = scored()
    answer = scores.logits.argmax(axis=1)
    table = confusion_matrix(scores.label, answer)
    expected = classification_report(scores.label, answer, output_dict=True)
    for number, row in enumerate(class_figures(table.astype(float), NAMES)):
        told = expected[str(number)]
        assert (row.name, row.cases) == (NAMES[number], told["support"])
        assert row.found.mean == pytest.approx(told["recall"], abs=1e-12)
        assert row.ppv == pytest.approx(told["precision"], abs=1e-12)
        assert row.f1 == pytest.approx(told["f1-score"], abs=1e-12)
        assert row.mcc == pytest.approx(matthews_corrcoef(scores.label == number, answer == number), abs=1e-12)
        spared = np.mean(answer[scores.label != number] != number)
        assert row.spared.mean == pytest.approx(spared, abs=1e-12)
        assert row.npv == pytest.approx(np.mean(scores.label[answer != number] != number), abs=1e-12)
        missed = np.bincount(answer[(scores.label == number) & (answer != number)], minlength=3)
        assert row.taken_for == f"{NAMES[int(missed.argmax())]} ({missed.max()})"


@pytest.mark.parametrize(("right", "cases"), [(0, 7), (7, 7), (3, 11), (180, 200)])
def test_intervals_are_wilsons(right: int, cases: int) -> None:
    ends = binomtest(right, cases).proportion_ci(method="wilson")
    assert wilson(right, cases).ends == pytest.approx((ends.low, ends.high), abs=1e-12)


def test_a_class_without_a_case_or_an_answer_has_no_figure() -> None:
    (alone, none) = class_figures(np.array([[4.0, 0.0], [0.0, 0.0]]), ("a", "b"))
    assert (none.found.mean, none.ppv, none.mcc, none.taken_for) == (None, None, None, "")
    assert (alone.found.mean, alone.spared.mean, alone.ppv, alone.npv) == (1.0, None, 1.0, None)


def test_counts_are_the_same_from_cases_from_sums_and_from_disk() -> None:
    scores = scored()
    here = judge(scores)
    parts = {name: summarise(select(scores, scores.site == name)) for name in ("north", "south")}
    there = judge_sites(parts, NAMES)
    assert (
        here.confusion
        == there.confusion
        == tuple(map(tuple, confusion_matrix(scores.label, scores.logits.argmax(axis=1)).tolist()))
    )
    for name in parts:
        assert here.by_site[name].confusion == there.by_site[name].confusion
    again = Judgement.from_dict(json.loads(json.dumps(here.as_dict())))
    assert (again.confusion, again.by_site) == (here.confusion, here.by_site)


def test_the_report_and_the_terminal_tell_what_the_pooled_figure_hides(tmp_path: Path) -> None:
    from io import StringIO

    from rich.console import Console

    from medtl_core.cli.simulate import simulate
    from medtl_core.config import settings
    from medtl_core.flower.run import RunPlan
    from medtl_core.report.terminal import summary_table

    root = Path(__file__).resolve().parents[2]
    values = {"data": "phantom", "sites": 5, "shots": 20, "image-size": 32, "features": "4", "bootstrap": 50}
    summary = simulate(RunPlan(settings({**values, "methods": "local,discriminant"}), 1, 1, False, tmp_path, root, "t"))
    result = json.loads((tmp_path / "seed-0" / "result.json").read_text())
    sites = result["methods"]["discriminant"]["by_site"]
    own = {name: row["balanced_accuracy"] for name, row in sites.items()}
    method = summary.methods["discriminant"]
    assert method.mean_of_hospitals.mean == pytest.approx(np.mean([*own.values()]))
    low = method.figures["balanced_accuracy"].low
    assert low is not None and set(method.below) == {name for name, value in own.items() if value < low}
    out = StringIO()
    Console(file=out, width=100).print(summary_table(summary))
    assert f"mean of hospitals: {np.mean([*own.values()]):.3f}" in out.getvalue()
    page = (tmp_path / "report.html").read_text()
    assert page.index('id="classes"') < page.index('id="methods"')
    for name in method.below:
        assert name in page[: page.index('id="classes"')]
