"""Judging a study: on the server's cases and on the hospitals' sums; what is said of ensembles and of local models."""

import json

import numpy as np
import pytest

from medtl_core.config import Settings
from medtl_core.errors import ConfigError
from medtl_core.federation.memory import MemoryHospitals
from medtl_core.federation.outcome import Problem
from medtl_core.federation.registry import read_methods
from medtl_core.federation.study import Study
from server.testset import TestSet
from server.verdict import Verdict, judge_all

PROBLEM = Problem(("x", "y", "z"), "features", (("4", 0, 2), ("7", 2, 4), ("10", 4, 6)))


def judged(hospitals: MemoryHospitals, methods: str, *, test: str = "server") -> tuple[Study, dict[str, Verdict]]:
    """Verdicts on the hospitals' held-out cases: pooled, as if the server had them, or where they are."""
    study = Study(hospitals, PROBLEM, Settings(bootstrap=5, test=test), read_methods(methods))
    if test == "sites":
        return study, judge_all(study, None)
    sites = list(hospitals.sites.values())
    values, label = (np.concatenate([getattr(site, name) for site in sites]) for name in ("test_values", "test_label"))
    names = np.concatenate([np.full(len(site.test_label), site.name) for site in sites])
    return study, judge_all(study, TestSet(values, label, names, np.arange(len(label))))


def test_every_ensemble_tells_diversity_and_gain(hospitals: MemoryHospitals) -> None:
    names = "local,discriminant,ensemble-local,ensemble-weighted,ensemble-equal"
    _, verdicts = judged(hospitals, names)
    assert list(verdicts) == names.split(",")
    for name, verdict in verdicts.items():
        facts = verdict.outcome.facts
        if name in ("local", "discriminant"):
            assert "diversity" not in facts
            continue
        assert set(facts["diversity"]) == {"disagreement", "q_statistic", "jensen_shannon"}
        gain = facts["gain"]["balanced_accuracy"]
        assert gain["over_best"] <= gain["over_mean"]
        assert gain["best_member"] in facts["members"]
        assert json.loads(json.dumps(facts)) == facts
    ensemble = verdicts["ensemble-local"]
    best = ensemble.outcome.facts["gain"]["balanced_accuracy"]
    alone = max(row["balanced_accuracy"] for row in verdicts["local"].outcome.facts["hospitals"].values())
    assert best["over_best"] == pytest.approx(ensemble.judgement.figures["balanced_accuracy"] - alone)
    assert (ensemble.kind, ensemble.outcome.heads) == ("ensemble", {})


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
    _, central = judged(hospitals, "ensemble-equal")
    study, summed = judged(hospitals, "ensemble-equal", test="sites")
    for name, verdict in summed.items():
        here, there = verdict.outcome, central[name].outcome
        assert here.facts["diversity"] == pytest.approx(there.facts["diversity"], abs=1e-5)
        gains = [outcome.facts["gain"]["balanced_accuracy"]["over_mean"] for outcome in (here, there)]
        assert gains[0] == pytest.approx(gains[1])
        assert f"remarks-{name}" in study.hospitals.costs
        assert f"remarks-{name}" not in here.bill  # looking at the members is not the method's cost


def test_an_ensemble_that_is_left_with_a_single_member_is_that_member(hospitals: MemoryHospitals) -> None:
    _, verdicts = judged(hospitals, "discriminant,ensemble-stacked")
    stacked = verdicts["ensemble-stacked"]
    assert stacked.outcome.facts["weights"] == {"ridge": 0.0, "discriminant": 1.0}
    assert "diversity" not in stacked.outcome.facts
    assert stacked.judgement.figures == pytest.approx(verdicts["discriminant"].judgement.figures)


def test_local_models_that_stay_are_judged_where_they_are(hospitals: MemoryHospitals) -> None:
    _, verdicts = judged(hospitals, "local-knn,local-logistic", test="sites")
    for verdict in verdicts.values():
        assert (verdict.kind, verdict.outcome.heads) == ("local", {})
        assert set(verdict.judgement.by_site) == set("abcde")
        assert 0 <= (verdict.judgement.figures["balanced_accuracy"] or 0) <= 1
    with pytest.raises(ConfigError, match=r"local-knn is judged by each hospital on its own cases; .*test=sites"):
        judged(hospitals, "local-knn")


def test_weights_that_need_labelled_cases_at_the_server_are_refused_without_them(hospitals: MemoryHospitals) -> None:
    with pytest.raises(ConfigError, match="ensemble-weighted needs labelled cases at the server"):
        judged(hospitals, "ensemble-weighted", test="sites")
