"""Scores of taps through the study: exact, from sums only, and refused where they mean nothing."""

from dataclasses import replace

import numpy as np
import pytest

from medtl_core.config import Settings
from medtl_core.errors import ConfigError, DataError
from medtl_core.federation.outcome import Outcome
from medtl_core.federation.registry import answer, read_methods
from medtl_core.federation.study import Study
from medtl_core.heads.closed_form import FAMILIES
from medtl_core.heads.statistics import collect
from medtl_core.methods.logme import logme
from medtl_core.methods.taps import SCORES
from simulations.memory import MemoryHospitals
from tests.memory import PROBLEM, make_site


def judged(hospitals: MemoryHospitals, name: str) -> Outcome:
    study = Study(hospitals, PROBLEM, Settings(), read_methods(name))
    return study.outcome(study.methods[0])


def pooled(hospitals: MemoryHospitals) -> tuple[np.ndarray, np.ndarray]:
    """Features and labels of all cases together."""
    sites = hospitals.sites.values()
    return (
        np.concatenate([site.values for site in sites]).astype(np.float64),
        np.concatenate([site.label for site in sites]),
    )


@pytest.mark.parametrize(("taps", "columns"), [("4", [0, 1]), ("4+10", [0, 1, 4, 5]), ("all", [0, 1, 2, 3, 4, 5])])
def test_scores_equal_those_of_the_pooled_features(hospitals: MemoryHospitals, taps: str, columns: list[int]) -> None:
    site = make_site("empty", 4)
    empty = replace(site, values=site.values[:0], label=site.label[:0], patients=site.patients[:0])  # adds nothing
    facts = judged(MemoryHospitals([*hospitals.sites.values(), empty]), f"taps@{taps}").facts
    values, label = pooled(hospitals)
    evidence = logme(collect(values[:, columns], label, 3))
    assert facts["width"] == len(columns)
    assert set(facts["scores"]) == set(SCORES)
    assert facts["scores"]["logme"] == pytest.approx(evidence, abs=1e-9)


def test_the_head_is_the_discriminant_of_its_taps_only(hospitals: MemoryHospitals) -> None:
    outcome = judged(hospitals, "taps@7")
    head, facts = outcome.heads[""], outcome.facts
    values, label = pooled(hospitals)
    index = FAMILIES["discriminant"].strengths.index(facts["strength"])
    direct = FAMILIES["discriminant"].heads(collect(values[:, 2:4], label, 3))[index] * facts["temperature"]
    np.testing.assert_allclose(head.weight[:, 2:4], direct[:, :-1], rtol=1e-4)
    np.testing.assert_allclose(head.bias, direct[:, -1], rtol=1e-4)
    assert not head.weight[:, [0, 1, 4, 5]].any()
    assert set(outcome.bill) == {"statistics@7", "validate@7"} == set(hospitals.costs)
    every, plain = (judged(hospitals, name) for name in ("taps@all", "discriminant"))
    np.testing.assert_allclose(every.heads[""].weight, plain.heads[""].weight, rtol=1e-5)
    scores = {"cv-loss": -plain.facts["cv_loss"], "cv-accuracy": plain.facts["cv_balanced_accuracy"]}
    assert {name: every.facts["scores"][name] for name in scores} == pytest.approx(scores)


def test_an_informative_tap_scores_above_noise(hospitals: MemoryHospitals) -> None:
    rng = np.random.default_rng(0)
    noisy = []
    for site in hospitals.sites.values():
        values = site.values.copy()
        values[:, 4:] = rng.standard_normal((len(values), 2))
        noisy.append(replace(site, values=values))
    good, bad = (judged(MemoryHospitals(noisy), f"taps@{tap}").facts["scores"] for tap in ("4", "10"))
    assert [name for name in SCORES if good[name] <= bad[name]] == []


@pytest.mark.parametrize(("name", "words"), [("taps@11", "known: 10, 4, 7"), ("taps@4+4", "names a tap twice")])
def test_a_tap_that_is_not_there_is_refused(hospitals: MemoryHospitals, name: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        judged(hospitals, name)
    assert hospitals.asked == []


def test_one_class_is_refused_before_anything_is_sent_back() -> None:
    alike = MemoryHospitals([make_site(name, 9, skew=1) for name in "ab"])
    with pytest.raises(DataError, match=r"together show 1 class\(es\)"):
        judged(alike, "taps@all")
    assert [request.task for request in alike.asked] == ["tap_statistics"]


@pytest.mark.parametrize("columns", [[6], [-1], []])
def test_a_hospital_refuses_columns_it_does_not_have(columns: list[int]) -> None:
    with pytest.raises(ConfigError, match=r"outside 0\.\.5"):
        answer("tap_statistics", make_site("a", 6), {"columns": np.array(columns, dtype=np.int64)}, {"folds": 5})
