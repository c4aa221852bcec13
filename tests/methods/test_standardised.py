"""Hospitals that standardise their features themselves: batches, known sites, files, and the method as a whole."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medtl_core.errors import WeightsError
from medtl_core.federation.registry import unpack
from medtl_core.methods.models.standardised import ENOUGH, FLOOR, Alignment, Standardised, of_batch
from simulations.memory import MemoryHospitals
from tests.methods.shifted import material, moved, plain, shifted, study

UNIT = Alignment(np.zeros(2), np.ones(2))


def model(**changes: object) -> Standardised:
    head = np.array([[1.0, 0.0, 0.5], [0.0, 2.0, 0.0]])
    return replace(Standardised(head, UNIT, UNIT, ("x", "y"), "features"), **changes)  # type: ignore[arg-type]


def test_a_batch_is_standardised_by_itself() -> None:
    values = np.array([[1.0, 10.0], [3.0, 10.0]] * 4)
    aligned = of_batch(values, UNIT).apply(values)
    np.testing.assert_allclose(aligned[:, 0], [-1, 1] * 4, atol=1e-5)
    np.testing.assert_array_equal(aligned[:, 1], np.zeros(8))
    assert of_batch(values, UNIT).scale[1] == FLOOR


@pytest.mark.parametrize("cases", [0, 1, 3, ENOUGH - 1])
def test_few_cases_lean_on_the_pooled_moments(cases: int) -> None:
    found = of_batch(np.full((cases, 2), 11.0), UNIT)
    np.testing.assert_allclose(found.location, 11.0 * cases / (cases + 10))
    np.testing.assert_allclose(found.scale, 10.0 / (cases + 10), atol=1e-5)
    assert model().logits(np.zeros((cases, 2))).shape == (cases, 2)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 1000), st.floats(0.2, 5.0), st.floats(-100.0, 100.0))
def test_an_unseen_sites_shift_and_scale_do_not_matter(seed: int, scale: float, shift: float) -> None:
    values = np.random.default_rng(seed).normal(size=(20, 2))
    np.testing.assert_allclose(model().logits(values), model().logits(scale * values + shift), atol=1e-3)


def test_sites_are_aligned_apart_and_keep_their_order() -> None:
    rng = np.random.default_rng(0)
    one, other = rng.normal(size=(9, 2)), rng.normal(5.0, 3.0, size=(12, 2))
    mixed, names = np.concatenate([one, other]), ["a"] * 9 + ["b"] * 12
    order = rng.permutation(21)
    found = model().logits(mixed[order], material(np.array(names)[order].tolist()))
    apart = np.concatenate([model().logits(one), model().logits(other)])
    np.testing.assert_allclose(found, apart[order])


def test_the_aligned_batch_takes_the_moments_of_the_training_features() -> None:
    values = np.array([[1.0, 5.0], [3.0, 9.0]] * 4)
    target = Alignment(np.array([10.0, 20.0]), np.array([2.0, 4.0]))
    np.testing.assert_allclose(model(target=target).logits(values)[:2], [[8.5, 32.0], [12.5, 48.0]], atol=1e-3)


def test_damaged_parts_are_refused() -> None:
    packed = model().pack()
    with pytest.raises(WeightsError, match="do not fit"):
        unpack("standardised", replace(packed, arrays={**packed.arrays, "locations": np.zeros((1, 2))}))
    with pytest.raises(WeightsError, match="not positive"):
        unpack("standardised", replace(packed, arrays={**packed.arrays, "pooled-scale": np.zeros(2)}))


SIZES = {"a": 30, "b": 24, "c": 40}


def aligned(made: object) -> Standardised:
    classifier = made.outcome(made.methods[-1]).heads[""]  # type: ignore[attr-defined]
    assert isinstance(classifier, Standardised)
    return classifier


def test_a_known_shift_of_every_site_is_removed_exactly() -> None:
    still, moving = plain(SIZES), shifted(plain(SIZES))
    before, after = (aligned(study(sites, "discriminant-standardised")) for sites in (still, moving))
    thrown = study(moving, "discriminant")
    np.testing.assert_allclose(before.head, after.head, rtol=1e-3, atol=1e-4)
    values, cases = still[0].test_values.astype(np.float64), material(["new"] * 20)
    np.testing.assert_allclose(
        before.logits(values, cases), after.logits(moved(values, "another scanner"), cases), rtol=1e-3, atol=1e-3
    )
    heads, label = (thrown.outcome(thrown.methods[0]).heads[""], after), moving[0].test_label
    right = [(head.logits(moved(values, "another scanner"), cases).argmax(1) == label).mean() for head in heads]
    assert right[0] < 0.6 < 0.7 < right[1]


def test_only_sums_leave_and_small_hospitals_take_part(hospitals: MemoryHospitals) -> None:
    made = study(list(hospitals.sites.values()), "discriminant-standardised")
    outcome = made.outcome(made.methods[0])
    assert np.isfinite(outcome.heads[""].head).all()
    assert outcome.facts["unseen_site"] == "moments of its own unlabelled batch"
    tasks = ["moments", "standardised_statistics", "standardised_validate"]
    assert [request.task for request in made.hospitals.asked] == tasks == [*outcome.bill]  # type: ignore[attr-defined]
