"""Federated ComBat against a direct computation on the pooled cases, and what it must and must not take for a shift."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medtl_core.methods.tasks import SiteData
from medtl_core.rng import stream
from medtl_core.transfer.combat import ROUNDS, Residuals, agree, by_class, combat_sums
from tests.memory import DirectHospitals
from tests.transfer.shifted import material, plain, shifted, study

SIZES = {"a": 30, "b": 24, "c": 40}


def sent(made: object) -> dict[str, np.ndarray]:
    agreed, moments = agree(made), made.moments  # type: ignore[arg-type, attr-defined]
    return {"mean": moments.mean, "scale": moments.scale, "means": agreed.means, "within": agreed.within}


def direct(sites: list[SiteData]) -> tuple[np.ndarray, np.ndarray]:
    """Class means and variance after the same rounds, written with one design matrix over all cases at once."""
    values = np.concatenate([site.values for site in sites]).astype(np.float64)
    label = np.concatenate([site.label for site in sites])
    hospital = np.repeat(np.arange(len(sites)), [len(site.label) for site in sites])
    z = (values - values.mean(0)) / (values.std(0) + 1e-6)
    classes, members = np.eye(3)[label], np.eye(len(sites))[hospital]
    size = members.sum(0)
    means = np.linalg.lstsq(classes, z, rcond=None)[0]
    within = ((z - classes @ means) ** 2).mean(0)
    for _ in range(ROUNDS):
        left = z - classes @ means
        centre = np.linalg.lstsq(members, left, rcond=None)[0]
        spread = members.T @ (left - members @ centre) ** 2 / size[:, None]
        weight = (size / (size + 10))[:, None]
        scale = np.sqrt(weight * spread + (1 - weight) * within)
        fixed = classes @ means + (left - members @ (weight * centre)) / (members @ scale) * np.sqrt(within)
        means, within = np.linalg.lstsq(classes, fixed, rcond=None)[0], ((left - members @ centre) ** 2).mean(0)
    return means, within


def test_the_rounds_equal_the_pooled_computation() -> None:
    sites = shifted(plain(SIZES))
    agreed = agree(study(sites, "discriminant-combat"))
    means, within = direct(sites)
    np.testing.assert_allclose(agreed.means, means, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(agreed.within, within, rtol=1e-8)


def test_four_light_rounds_are_asked_and_billed() -> None:
    made = study(plain(SIZES), "discriminant-combat")
    bill = made.outcome(made.methods[0]).bill
    asked = [request.task for request in made.hospitals.asked]  # type: ignore[attr-defined]
    assert asked == ["moments", *["combat_sums"] * 4, "combat_statistics", "combat_validate"]
    assert set(bill) == set(asked)


def test_a_class_mix_is_no_shift() -> None:
    rng = stream(0, "mix")
    sites = []
    for name, odds in (("a", 0.9), ("b", 0.1)):
        label = (rng.random(500) > odds).astype(np.int64)
        values = np.where(label[:, None] == 1, 4.0, 0.0) + rng.standard_normal((500, 6))
        sites.append(replace(plain({name: 500})[0], values=values, label=label))
    made = study(sites, "discriminant-combat")
    maps = [by_class(site, sent(made)) for site in sites]
    assert np.abs(sites[0].values.mean(0) - sites[1].values.mean(0)).min() > 3
    assert np.abs(maps[0].location - maps[1].location).max() < 0.3
    np.testing.assert_allclose(maps[0].scale / maps[1].scale, 1.0, atol=0.15)


def test_a_shift_is_found_under_another_class_mix() -> None:
    rng = stream(0, "mix")
    sites = []
    for name, odds, shift in (("a", 0.8, 0.0), ("b", 0.2, 2.0)):
        label = (rng.random(2000) > odds).astype(np.int64)
        values = np.where(label[:, None] == 1, 4.0, 0.0) + rng.standard_normal((2000, 6)) + shift
        sites.append(replace(plain({name: 4})[0], values=values, label=label, patients=np.arange(2000).astype(str)))
    made = study(sites, "discriminant-combat")
    first, second = (by_class(site, sent(made)) for site in sites)
    # three rounds leave a little of the shift in the class means; the mix alone would make it 4.4
    np.testing.assert_allclose(second.location - first.location, 2.0, atol=0.6)


@settings(deadline=None, max_examples=10)
@given(st.integers(0, 1000), st.integers(20, 60))
def test_one_hospital_is_not_aligned_to_anything(seed: int, cases: int) -> None:
    sites = plain({"only": cases}, seed)
    made = study(sites, "discriminant,discriminant-combat-inductive")
    own, pooled = by_class(sites[0], sent(made)), made.moments
    np.testing.assert_allclose(own.location, pooled.mean, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(own.scale, pooled.scale, rtol=1e-6)
    head, aligned = (made.outcome(method).heads[""] for method in made.methods)
    values = sites[0].test_values
    np.testing.assert_allclose(
        head.logits(values), aligned.logits(values, material(["only"] * 20)), rtol=1e-3, atol=1e-3
    )


def test_weight_of_a_hospital_by_hand() -> None:
    agreed = Residuals(np.array([[0.0], [2.0]]), np.array([4.0]))
    shift, scale = agreed.shift_and_scale(np.array([[3.0], [3.0]] * 5), np.array([0, 1] * 5))
    np.testing.assert_allclose(shift, 0.5 * 2.0)  # residuals 3 and 1; ten cases count half
    np.testing.assert_allclose(scale, np.sqrt(0.5 * 1.0 + 0.5 * 4.0))


def test_a_hospital_without_cases_moves_nothing() -> None:
    empty = replace(plain({"a": 4})[0], values=np.zeros((0, 6)), label=np.zeros(0, np.int64))
    agreed = {"mean": np.zeros(6), "scale": np.ones(6), "means": np.zeros((3, 6)), "within": np.ones(6)}
    for arrays in (agreed, {"mean": np.zeros(6), "scale": np.ones(6)}):
        assert all((array == 0).all() for array in combat_sums(empty, arrays, {}).update.arrays.values())
    np.testing.assert_array_equal(by_class(empty, agreed).location, np.zeros(6))


@pytest.mark.parametrize("constant", [0, 5])
def test_a_constant_feature_and_odd_hospitals_stay_finite(hospitals: DirectHospitals, constant: int) -> None:
    sites = list(hospitals.sites.values())
    for site in sites:
        site.values[:, constant] = 2.0
    made = study(sites, "discriminant-combat")
    model = made.outcome(made.methods[0]).heads[""]
    assert np.isfinite(model.logits(sites[0].test_values, material(["new"] * 20))).all()
