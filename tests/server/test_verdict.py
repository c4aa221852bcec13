"""Judging a study: on the server's cases and on the hospitals' sums; ensembles and local models."""

import json

import numpy as np
import pytest

from medtl_core.config import Settings
from medtl_core.federation.registry import read_methods
from medtl_core.federation.study import Study
from server.testset import TestSet
from server.verdict import Verdict, judge_all
from simulations.memory import MemoryHospitals
from tests.memory import PROBLEM


def judged(hospitals: MemoryHospitals, methods: str, *, test: str = "server") -> tuple[Study, dict[str, Verdict]]:
    """Verdicts on the hospitals' held-out cases: pooled, as if the server had them, or where they are."""
    study = Study(hospitals, PROBLEM, Settings(bootstrap=5, test=test), read_methods(methods))
    if test == "sites":
        return study, judge_all(study, None)
    sites = list(hospitals.sites.values())
    values, label = (np.concatenate([getattr(site, name) for site in sites]) for name in ("test_values", "test_label"))
    names = np.concatenate([np.full(len(site.test_label), site.name) for site in sites])
    return study, judge_all(study, TestSet(values, label, names, np.arange(len(label))))


def test_an_ensemble_is_judged_on_its_members_scores_and_told(hospitals: MemoryHospitals) -> None:
    names = "local,ensemble-local,ensemble-weighted,ensemble-equal"
    _, verdicts = judged(hospitals, names)
    assert list(verdicts) == names.split(",")
    for name, verdict in list(verdicts.items())[1:]:
        facts = verdict.outcome.facts
        assert facts["members"] and json.loads(json.dumps(facts)) == facts, name
        assert (verdict.kind, verdict.outcome.heads == {}) == (
            ("federated", False) if name == "ensemble-equal" else ("ensemble", True)
        )


def test_an_ensemble_may_be_named_before_its_members(hospitals: MemoryHospitals) -> None:
    _, before = judged(hospitals, "ensemble-weighted,local")
    asked = [request.task for request in hospitals.asked]
    _, after = judged(hospitals, "local,ensemble-weighted")
    assert before["ensemble-weighted"].judgement == after["ensemble-weighted"].judgement
    assert list(before) == ["ensemble-weighted", "local"]
    assert asked.count("local") == 1
    bills = [verdicts["ensemble-weighted"].outcome.bill.keys() for verdicts in (before, after)]
    assert bills[0] == bills[1] == {"local"}


def test_sums_of_the_hospitals_say_the_same_as_the_servers_cases(hospitals: MemoryHospitals) -> None:
    _, central = judged(hospitals, "ensemble-equal,fedavg-2")
    _, summed = judged(hospitals, "ensemble-equal,fedavg-2", test="sites")
    for name, verdict in summed.items():
        here, there = verdict.judgement.figures, central[name].judgement.figures
        assert here["balanced_accuracy"] == pytest.approx(there["balanced_accuracy"], abs=1e-5)


def test_an_ensemble_that_is_left_with_a_single_member_is_that_member(hospitals: MemoryHospitals) -> None:
    _, verdicts = judged(hospitals, "discriminant,ensemble-stacked")
    stacked = verdicts["ensemble-stacked"]
    assert stacked.outcome.facts["weights"] == {"ridge": 0.0, "discriminant": 1.0}
    assert stacked.judgement.figures == pytest.approx(verdicts["discriminant"].judgement.figures)


def test_local_models_that_stay_are_judged_where_they_are(hospitals: MemoryHospitals) -> None:
    _, verdicts = judged(hospitals, "local-knn,local-logistic", test="sites")
    for verdict in verdicts.values():
        assert (verdict.kind, verdict.outcome.heads) == ("local", {})
        assert set(verdict.judgement.by_site) == set("abcde")
        assert 0 <= (verdict.judgement.figures["balanced_accuracy"] or 0) <= 1
