"""The head that every site aligns for itself: batches, known sites, and its way through a file."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medtl_core.errors import WeightsError
from medtl_core.federation.registry import unpack
from medtl_core.methods.standardised import ENOUGH, FLOOR, Alignment, Standardised, of_batch
from tests.methods.shifted import material

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


@pytest.mark.parametrize("cases", [1, 3, ENOUGH - 1])
def test_few_cases_lean_on_the_pooled_moments(cases: int) -> None:
    found = of_batch(np.full((cases, 2), 11.0), UNIT)
    np.testing.assert_allclose(found.location, 11.0 * cases / (cases + 10))
    np.testing.assert_allclose(found.scale, 10.0 / (cases + 10), atol=1e-5)


def test_no_case_takes_the_pooled_moments() -> None:
    assert of_batch(np.zeros((0, 2)), UNIT) is UNIT
    assert model().logits(np.zeros((0, 2))).shape == (0, 2)


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


def test_a_known_site_is_aligned_as_it_trained_and_its_parts_are_pooled() -> None:
    locations, scales = np.array([[1.0, 1.0], [4.0, 4.0]]), np.array([[1.0, 1.0], [2.0, 2.0]])
    known = model(sites=("a-1", "a-2"), locations=locations, scales=scales, cases=np.array([20, 10]))
    value = np.array([[2.0 + np.sqrt(2.0), 2.0]])
    np.testing.assert_allclose(known.logits(value, material(["a"])), [[1.5, 0.0]])  # location 2, scale sqrt(2)
    np.testing.assert_allclose(known.logits(value, material(["a-2"])), [[(2 + np.sqrt(2) - 4) / 2 + 0.5, -2.0]])
    np.testing.assert_allclose(known.logits(value, material(["a-22"])), model().logits(value))


@pytest.mark.parametrize("sites", [(), ("a", "b|c")])
def test_packed_and_unpacked_it_answers_the_same(sites: tuple[str, ...]) -> None:
    locations = np.array([[1.0, number] for number in range(len(sites))]).reshape(-1, 2)
    scales = np.array([[2.0, 1.0] for _ in sites]).reshape(-1, 2)
    before = model(sites=sites, locations=locations, scales=scales, cases=np.array([5, 6])[: len(sites)])
    after = unpack("standardised", before.pack())
    values, cases = np.arange(8.0).reshape(4, 2), material(["a", "a", "b|c", "new"])
    np.testing.assert_array_equal(before.logits(values, cases), after.logits(values, cases))


def test_damaged_parts_are_refused() -> None:
    packed = model().pack()
    with pytest.raises(WeightsError, match="do not fit"):
        unpack("standardised", replace(packed, arrays={"head": packed.arrays["head"]}))
    with pytest.raises(WeightsError, match="do not fit"):
        unpack("standardised", replace(packed, classes=("x", "y", "z")))
    with pytest.raises(WeightsError, match="do not fit"):
        unpack("standardised", replace(packed, config={"sites": '["a"]'}))
    with pytest.raises(WeightsError, match="not positive"):
        unpack("standardised", replace(packed, arrays={**packed.arrays, "pooled-scale": np.zeros(2)}))
