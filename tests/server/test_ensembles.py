"""Ensembles judged: on the server's cases and on the hospitals' sums, with their members' diversity and gain."""

import json

import numpy as np
import pytest

from medtl_core.config import Settings
from medtl_core.errors import ConfigError
from medtl_core.federation.outcome import Problem
from medtl_core.federation.registry import read_methods
from medtl_core.federation.study import Study
from medtl_core.methods.mixture import Mixture
from server.testset import TestSet
from server.verdict import Verdict, judge_all
from tests.memory import DirectHospitals

PROBLEM = Problem(("x", "y", "z"), "features", (("4", 0, 2), ("7", 2, 4), ("10", 4, 6)))


def cases_of(hospitals: DirectHospitals) -> TestSet:
    """The hospitals' held-out cases, as if the server had them."""
    sites = list(hospitals.sites.values())
    values, label = (np.concatenate([getattr(site, name) for site in sites]) for name in ("test_values", "test_label"))
    site = np.concatenate([np.full(len(one.test_label), one.name) for one in sites])
    return TestSet(values, label, site, np.arange(len(label)))


def judged(hospitals: DirectHospitals, methods: str, *, test: str = "server") -> tuple[Study, dict[str, Verdict]]:
    made = Study(hospitals, PROBLEM, Settings(bootstrap=5, test=test), read_methods(methods))
    return made, judge_all(made, cases_of(hospitals) if test == "server" else None)


def test_every_ensemble_tells_diversity_and_gain(hospitals: DirectHospitals) -> None:
    names = "local,discriminant,ensemble-local,ensemble-weighted,ensemble-all,ensemble-equal,ensemble-equal-fedavg"
    _, found = judged(hospitals, names)
    assert list(found) == names.split(",")
    for name, verdict in found.items():
        if name in ("local", "discriminant"):
            assert "diversity" not in verdict.facts
            continue
        assert set(verdict.facts["diversity"]) == {"disagreement", "q_statistic", "jensen_shannon"}
        gain = verdict.facts["gain"]["balanced_accuracy"]
        assert gain["over_best"] <= gain["over_mean"]
        assert gain["best_member"] in verdict.facts["members"]
        assert json.loads(json.dumps(verdict.facts)) == verdict.facts
    best = found["ensemble-local"].facts["gain"]["balanced_accuracy"]
    alone = max(one["balanced_accuracy"] for one in found["local"].facts["hospitals"].values())
    assert best["over_best"] == pytest.approx(found["ensemble-local"].figures["balanced_accuracy"] - alone)
    assert "discriminant" in found["ensemble-all"].facts["members"]


def test_sums_of_the_hospitals_say_the_same_as_the_servers_cases(hospitals: DirectHospitals) -> None:
    _, central = judged(hospitals, "ensemble-equal,ensemble-equal-fedavg")
    made, summed = judged(hospitals, "ensemble-equal,ensemble-equal-fedavg", test="sites")
    for name, verdict in summed.items():
        ours, theirs = verdict.facts["diversity"], central[name].facts["diversity"]
        assert ours == pytest.approx(theirs, abs=1e-5)
        ours, theirs = (one.facts["gain"]["balanced_accuracy"] for one in (verdict, central[name]))
        assert ours["over_mean"] == pytest.approx(theirs["over_mean"])
        assert f"remarks-{name}" in made.hospitals.costs
        assert f"remarks-{name}" not in verdict.bill  # looking at the members is not the method's cost


def test_an_ensemble_that_is_left_with_one_member_is_that_member(hospitals: DirectHospitals) -> None:
    _, found = judged(hospitals, "discriminant,ensemble-stacked")
    mixture = found["ensemble-stacked"].heads[""]
    assert isinstance(mixture, Mixture)
    assert dict(zip(mixture.members, mixture.weights, strict=True)) == {"ridge": 0.0, "discriminant": 1.0}
    assert "diversity" not in found["ensemble-stacked"].facts
    for name, value in found["discriminant"].figures.items():
        assert found["ensemble-stacked"].figures[name] == pytest.approx(value)


def test_local_models_that_stay_are_judged_where_they_are(hospitals: DirectHospitals) -> None:
    _, found = judged(hospitals, "local-knn,local-logistic", test="sites")
    for verdict in found.values():
        assert verdict.kind == "local"
        assert verdict.heads == {}
        assert set(verdict.by_site) == set("abcde")
        assert 0 <= verdict.figures["balanced_accuracy"] <= 1
    with pytest.raises(ConfigError, match=r"local-knn is judged by each hospital on its own cases; .*test=sites"):
        judged(hospitals, "local-knn")


def test_weights_that_need_labelled_cases_at_the_server_are_refused_without_them(hospitals: DirectHospitals) -> None:
    with pytest.raises(ConfigError, match="ensemble-weighted needs labelled cases at the server"):
        judged(hospitals, "ensemble-weighted", test="sites")
