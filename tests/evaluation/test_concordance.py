"""Concordance by hand, by brute force, by another library, and from hospitals' sums."""

from dataclasses import replace

import numpy as np
import pytest

from medtl_core.evaluation.concordance import share
from medtl_core.evaluation.federated import contradiction, judge_sites, summarise
from medtl_core.evaluation.intervals import bootstrap
from medtl_core.evaluation.scores import judge, select
from medtl_core.rng import stream
from medtl_core.values import Scores
from tests.evaluation.drawn import draw


def followed(risk: list[float], event: list[int], times: list[float], site: str = "aaaaaaaa") -> Scores:
    label, names = np.array(event), np.array(list(site[: len(event)]))
    return Scores(np.stack([np.zeros(len(risk)), risk], axis=1), label, names, np.arange(len(risk)), np.array(times))


def drawn(cases: int = 60, seed: int = 0) -> Scores:
    scores = draw(cases, 2, seed, decimals=1)
    return replace(scores, time=np.random.default_rng(seed).integers(1, 20, cases).astype(float))


def test_by_hand() -> None:
    # events at 1 and 2, last contact at 2 and 3: pairs (1, each of three), (2, last contact at 2), (2, at 3)
    assert judge(followed([3, 2, 1, 0], [1, 1, 0, 0], [1, 2, 2, 3])).figures["concordance"] == 1.0
    assert judge(followed([0, 2, 2, 3], [1, 1, 0, 0], [1, 2, 2, 3])).figures["concordance"] == pytest.approx(0.5 / 5)
    nobody = judge(followed([1, 2], [0, 0], [1, 2]))
    assert nobody.figures == {"concordance": None, "mean_of_sites": None, "worst_site": None}
    assert judge(followed([1, 2], [1, 1], [5, 5])).figures["concordance"] is None  # two events of one moment


def test_sites_are_compared_within_themselves() -> None:
    judged = judge(followed([1, 0, 8, 9, 5], [1, 0, 1, 0, 0], [1, 2, 1, 2, 1], "aabbc"))
    assert {name: row.concordance for name, row in judged.by_site.items()} == {"a": 1.0, "b": 0.0, "c": None}
    assert (judged.figures["mean_of_sites"], judged.figures["worst_site"]) == (0.5, 0.0)
    assert judged.as_dict()["by_site"]["a"] == {"balanced_accuracy": None, "auroc": None, "n": 2, "concordance": 1.0}


def test_hospitals_sums_give_the_concordance_within_sites() -> None:
    scores = drawn(200)
    sums = {name: summarise(select(scores, scores.site == name)) for name in "abc"}
    together, apart = judge_sites(sums, ("no", "yes")), judge(scores)
    assert together.by_site == apart.by_site
    assert together.figures["mean_of_sites"] == apart.figures["mean_of_sites"]
    stacked = {name: array[None] for name, array in sums["a"].arrays.items()}
    assert contradiction(stacked, 0) == ""
    assert contradiction({**stacked, "pairs": np.array([[2.0, 1.0]])}, 0)


def test_a_case_counts_as_often_as_it_was_drawn() -> None:
    scores = drawn()
    twice = np.repeat(np.arange(60), np.arange(60) % 3)
    weight = np.stack([np.ones(60), np.arange(60) % 3], axis=1)
    assert share(scores, weight) == pytest.approx([share(scores)[0], share(select(scores, twice))[0]])
    low, high = bootstrap(scores, ("concordance",), 50, rng=stream(0, "b"))["concordance"]
    assert low < share(scores)[0] < high


@pytest.mark.slow
def test_lifelines_counts_the_same_pairs() -> None:
    utils = pytest.importorskip("lifelines.utils", reason="lifelines is the oracle; it comes with the extra dev")
    for seed in range(5):
        scores = drawn(300, seed)
        risk = scores.logits[:, 1] - scores.logits[:, 0]
        assert share(scores)[0] == pytest.approx(utils.concordance_index(scores.time, -risk, scores.label), abs=1e-12)
