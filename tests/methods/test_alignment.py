"""The discriminant on self-standardised hospitals: exact removal of a shift, the pooled oracle, one hospital."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medtl_core.federation.memory import MemoryHospitals
from medtl_core.heads.closed_form import Discriminant
from medtl_core.heads.statistics import collect
from medtl_core.methods.standardised import Standardised
from tests.methods.shifted import material, moved, plain, shifted, study

SIZES = {"a": 30, "b": 24, "c": 40}


def model(made: object) -> Standardised:
    classifier = made.outcome(made.methods[-1]).heads[""]  # type: ignore[attr-defined]
    assert isinstance(classifier, Standardised)
    return classifier


def test_a_known_shift_of_every_site_is_removed_exactly() -> None:
    still, moving = plain(SIZES), shifted(plain(SIZES))
    before, after = (model(study(sites, "discriminant-standardised")) for sites in (still, moving))
    np.testing.assert_allclose(before.head, after.head, rtol=1e-3, atol=1e-4)
    values, cases = still[0].test_values.astype(np.float64), material(["new"] * 20)
    np.testing.assert_allclose(
        before.logits(values, cases), after.logits(moved(values, "another scanner"), cases), rtol=1e-3, atol=1e-3
    )


def test_the_plain_discriminant_is_thrown_by_that_shift_and_this_one_is_not() -> None:
    sites = shifted(plain(SIZES))
    made = study(sites, "discriminant,discriminant-standardised")
    values, label = moved(sites[0].test_values, "another scanner"), sites[0].test_label
    right = [
        (made.outcome(method).heads[""].logits(values, material(["new"] * 20)).argmax(1) == label).mean()
        for method in made.methods
    ]
    assert right[0] < 0.6 < 0.7 < right[1]


def test_the_head_is_the_discriminant_of_the_pooled_standardised_cases() -> None:
    sites = shifted(plain(SIZES))
    made = study(sites, "discriminant-standardised")
    outcome = made.outcome(made.methods[0])
    values = np.concatenate([(site.values - site.values.mean(0)) / (site.values.std(0) + 1e-6) for site in sites])
    label = np.concatenate([site.label for site in sites])
    index = Discriminant().strengths.index(outcome.facts["strength"])
    direct = Discriminant().heads(collect(values, label, 3))[index] * outcome.facts["temperature"]
    np.testing.assert_allclose(model(made).head, direct, rtol=1e-8, atol=1e-10)


@settings(deadline=None, max_examples=10)
@given(st.integers(0, 1000), st.integers(20, 60))
def test_one_hospital_is_not_aligned_to_anything(seed: int, cases: int) -> None:
    sites = plain({"only": cases}, seed)
    made = study(sites, "discriminant,discriminant-standardised-inductive")
    aligned, head = model(made), made.outcome(made.methods[0]).heads[""]
    values = sites[0].test_values
    np.testing.assert_allclose(
        head.logits(values), aligned.logits(values, material(["only"] * 20)), rtol=1e-3, atol=1e-3
    )


def test_a_hospital_of_one_case_and_one_of_one_class_take_part(hospitals: MemoryHospitals) -> None:
    made = study(list(hospitals.sites.values()), "discriminant-standardised,discriminant-standardised-inductive")
    plainly, known = (made.outcome(method).heads[""] for method in made.methods)
    assert np.isfinite(plainly.head).all() and plainly.sites == ()
    assert known.sites == ("a", "b", "c", "d", "e") and known.cases == (30, 20, 1, 25, 12)


def test_only_the_inductive_variant_shows_a_hospitals_alignment() -> None:
    made = study(plain(SIZES), "discriminant-standardised")
    made.outcome(made.methods[0])
    asked = [request.task for request in made.hospitals.asked]  # type: ignore[attr-defined]
    assert asked == ["moments", "standardised_statistics", "standardised_validate"]
    both = study(plain(SIZES), "discriminant-standardised,discriminant-standardised-inductive")
    bills = [both.outcome(method).bill for method in both.methods]
    assert set(bills[1]) - set(bills[0]) == {"standardised_moments"}
    tasks = [request.task for request in both.hospitals.asked]  # type: ignore[attr-defined]
    assert len(tasks) == len(set(tasks))


@pytest.mark.parametrize("name", ["discriminant-standardised", "discriminant-standardised-inductive"])
def test_facts_say_what_happens_to_an_unseen_site(name: str) -> None:
    made = study(plain(SIZES), name)
    facts = made.outcome(made.methods[0]).facts
    assert facts["unseen_site"] == "moments of its own unlabelled batch"
    assert facts["alignments_shown_to_server"] is name.endswith("inductive")
