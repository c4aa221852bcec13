"""Sets of classes: literal floors, the promise on cases drawn alike, and the same from summed histograms."""

import json
from pathlib import Path

import numpy as np
import pytest

from medtl_core.cli.simulate import simulate
from medtl_core.config import settings
from medtl_core.errors import WeightsError
from medtl_core.evaluation.federated import log_odds, summarise
from medtl_core.flower.run import RunPlan
from medtl_core.predict import load
from medtl_core.predict.conformal import Conformal
from medtl_core.values import Scores

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.usefixtures("one_torch_thread")


def scores(cases: int, seed: int, classes: int = 3, signal: float = 1.5) -> Scores:
    rng = np.random.default_rng(seed)
    label = rng.choice(classes, cases, p=np.array([6, 3, 1])[:classes] / sum([6, 3, 1][:classes]))
    logits = rng.normal(size=(cases, classes)) + signal * np.eye(classes)[label]
    return Scores(logits, label, np.full(cases, "a"), np.arange(cases))


def test_the_floor_is_the_ranked_case() -> None:
    logits = np.stack([np.arange(20.0), np.zeros(20)], axis=1)
    label = np.r_[np.zeros(19, int), 1]
    found = Conformal.of_scores(Scores(logits, label, np.full(20, "a"), np.arange(20)))
    assert found.floors[0] == pytest.approx(1.0)  # the second of nineteen: floor(.1 * 20)
    assert found.floors[1] == -np.inf  # one case promises nothing
    assert found.unpromised(("a", "b")) == ("b",)
    assert found.inside(np.array([[0.9, 0.0], [1.1, 0.0]])).tolist() == [[False, True], [True, True]]


@pytest.mark.parametrize("level", [0.8, 0.9, 0.95])
def test_every_class_is_covered_as_promised_on_cases_drawn_alike(level: float) -> None:
    covered = []
    for seed in range(40):
        found, fresh = Conformal.of_scores(scores(600, seed), level), scores(600, 1000 + seed)
        inside = found.inside(fresh.logits)[np.arange(600), fresh.label]
        covered.append([inside[fresh.label == number].mean() for number in range(3)])
    means = np.mean(covered, axis=0)
    assert (means > level - 0.015).all() and (means < level + 0.04).all()


def test_summed_histograms_of_hospitals_promise_no_less_and_hardly_more() -> None:
    parts = [scores(200, seed) for seed in range(4)]
    joined = Scores(
        *(np.concatenate([getattr(part, name) for part in parts]) for name in ("logits", "label", "site", "group"))
    )
    exact = Conformal.of_scores(joined)
    summed = Conformal.of_sums(np.sum([summarise(part).arrays["positive"] for part in parts], axis=0))
    assert (summed.floors <= exact.floors + 1e-12).all()
    assert summed.cases.tolist() == exact.cases.tolist()
    inside = [each.inside(joined.logits)[np.arange(800), joined.label].mean() for each in (exact, summed)]
    assert inside[0] <= inside[1] <= inside[0] + 0.03


def test_facts_say_all_of_it() -> None:
    found = Conformal.of_scores(scores(50, 1))
    again = Conformal.of_facts(json.loads(json.dumps(found.as_facts())), 3)
    assert again is not None and again.level == found.level
    np.testing.assert_array_equal(again.floors, found.floors)
    assert Conformal.of_facts({}, 3) is None


@pytest.mark.parametrize("facts", [{"floors": [1]}, {"floors": [1, 2], "cases": [1, 2], "level": 0.9}, {"level": "x"}])
def test_damaged_facts_are_refused(facts: dict[str, object]) -> None:
    with pytest.raises(WeightsError, match="conformal"):
        Conformal.of_facts(facts, 3)


@pytest.mark.parametrize("test", ["server", "sites"])
def test_a_runs_head_tells_the_likely_classes_on_both_roads_of_judging(tmp_path: Path, test: str) -> None:
    values = {"data": "phantom", "sites": 3, "shots": 16, "image-size": 32, "features": "4", "bootstrap": 1}
    chosen = settings({**values, "methods": "discriminant", "test": test})
    simulate(RunPlan(chosen, 1, 1, False, tmp_path / "run", ROOT, "tiny"))
    predictor = load(tmp_path / "run" / "seed-0" / "heads" / "discriminant")
    assert predictor.conformal is not None and (predictor.conformal.cases > 9).all()
    answers = list(predictor.answers(["phantom"]))
    told = [answer.name.split("drawn as ")[1].rstrip(")") in answer.likely for answer in answers]
    assert sum(told) >= len(told) - 3


def test_a_case_that_is_like_no_class_has_no_answer() -> None:
    from medtl_core.predict.answer import answers_of

    found = Conformal(np.array([2.0, 2.0]), np.array([50, 50]))
    logits = np.array([[1.0, 0.0], [3.0, 0.0]])
    assert (log_odds(logits)[0] < 2).all()
    doubtful, sure = answers_of(["a", "b"], logits, ("x", "y"), 0.0, found.inside(logits))
    assert (doubtful.likeliest, doubtful.likely) == ("", ()) and doubtful.doubt
    assert (sure.likeliest, sure.likely) == ("x", ("x",))
