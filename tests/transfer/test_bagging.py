"""Bagged heads: each bag is the head of a bootstrap of all patients, and only sums leave."""

import numpy as np
import pytest

from medtl_core.calibrate import softmax
from medtl_core.config import Settings
from medtl_core.errors import ConfigError
from medtl_core.heads.closed import FAMILIES
from medtl_core.heads.statistics import collect
from medtl_core.methods.outcome import Problem
from medtl_core.methods.study import Study
from medtl_core.methods.tasks import SiteData
from medtl_core.registry import read_methods
from medtl_core.transfer.bagging import bagged_statistics, draws
from medtl_core.transfer.mixture import Mixture
from tests.memory import DirectHospitals, make_site

PROBLEM = Problem(("x", "y", "z"), "features", (("4", 0, 6),))


@pytest.mark.parametrize(("name", "family"), [("bagged-4", "discriminant"), ("bagged-4-mean", "nearest-mean")])
def test_a_bag_equals_the_head_of_repeated_cases(hospitals: DirectHospitals, name: str, family: str) -> None:
    made = Study(hospitals, PROBLEM, Settings(), read_methods(name))
    mixture = made.outcome(made.methods[0]).heads[""]
    assert isinstance(mixture, Mixture)
    choice = made.choices[family]
    sites = list(hospitals.sites.values())
    for bag, head in enumerate(mixture.heads):
        times = np.concatenate([draws(site, 4)[bag] for site in sites]).astype(int)
        values = np.repeat(np.concatenate([site.values for site in sites]), times, axis=0)
        label = np.repeat(np.concatenate([site.label for site in sites]), times)
        direct = FAMILIES[family].heads(collect(values, label, 3))[choice.index] * choice.temperature
        np.testing.assert_allclose(head, direct, rtol=1e-8, atol=1e-9)
    values = sites[0].values
    parts = [softmax(logits) for logits in mixture.of_members(values).values()]
    np.testing.assert_allclose(softmax(mixture.logits(values)), np.mean(parts, axis=0), atol=1e-12)


def test_a_patient_counts_as_a_whole_and_bags_differ() -> None:
    site = make_site("a", 400)
    shared = SiteData(**{**vars(site), "patients": np.array([f"p{number // 4}" for number in range(400)])})
    found = draws(shared, 6)
    assert (found.reshape(6, 100, 4) == found.reshape(6, 100, 4)[:, :, :1]).all()
    assert len({row.tobytes() for row in found}) == 6
    assert found.mean() == pytest.approx(1.0, abs=0.2)  # 600 Poisson(1) draws: five standard errors are 0.2
    np.testing.assert_array_equal(found, draws(shared, 6))
    np.testing.assert_array_equal(found[:2], draws(shared, 2))


def test_the_nearest_mean_sends_no_gram_matrix() -> None:
    site = make_site("a", 20)
    small = bagged_statistics(site, {}, {"bags": 2, "gram": False}).update.arrays
    large = bagged_statistics(site, {}, {"bags": 2, "gram": True}).update.arrays
    assert {name: array.shape for name, array in small.items()} == {
        "counts": (2, 3), "sums": (2, 3, 6), "squares": (2, 6)
    }  # fmt: skip
    assert large["gram"].shape == (2, 21)
    np.testing.assert_allclose(small["sums"], large["sums"])


def test_one_case_that_a_bag_leaves_out_is_no_error() -> None:
    hospitals = DirectHospitals([make_site("a", 1), make_site("b", 2)])
    for name in ("bagged-9", "bagged-9-mean"):
        made = Study(hospitals, PROBLEM, Settings(), read_methods(name))
        assert np.isfinite(made.outcome(made.methods[0]).heads[""].logits(np.zeros((2, 6)))).all()


@pytest.mark.parametrize("name", ["bagged", "bagged-0", "bagged-100", "bagged-5-ridge"])
def test_other_names_are_unknown(name: str) -> None:
    with pytest.raises(ConfigError, match="unknown method"):
        read_methods(name)
