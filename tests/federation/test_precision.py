"""In which precision sums travel: float32 for what a network computes, float64 for columns with offsets."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medtl_core.config import Settings
from medtl_core.federation.feature_map import IDENTITY
from medtl_core.federation.outcome import Outcome, Problem
from medtl_core.federation.registry import read_methods
from medtl_core.federation.study import Study
from medtl_core.heads.closed_form import FAMILIES
from medtl_core.heads.statistics import collect, pack, rounded, untrue
from medtl_core.rng import stream
from simulations.memory import MemoryHospitals
from tests.memory import make_site

WIDTH = 24
#: Fewer cases than features, more, and one class only.
SIZES = {"few": 15, "many": 60, "one": 6}


def hospitals(offset: float) -> MemoryHospitals:
    """Cases whose features lie so far from zero; most deviations are 1 to 3."""
    sites = [make_site(name, n, width=WIDTH, skew=1 if name == "one" else None) for name, n in SIZES.items()]
    return MemoryHospitals([replace(site, values=(site.values + offset).astype(np.float32)) for site in sites])


def solved(tap: str, offset: float, *, exact: bool = False) -> tuple[dict[str, Outcome], MemoryHospitals]:
    asked = hospitals(offset)
    methods = read_methods("auto,discriminant,logistic-5")
    made = Study(asked, Problem(("x", "y", "z"), "", ((tap, 0, WIDTH),)), Settings(folds=3), methods)
    if exact:
        made.features = made.reading(IDENTITY, {}, width=WIDTH)
    return {method.name: made.outcome(method) for method in methods}, asked


def centred(outcome: Outcome, asked: MemoryHospitals) -> np.ndarray:
    logits = outcome.heads[""].logits(np.concatenate([site.values for site in asked.sites.values()]))
    return np.asarray(logits - logits.mean(axis=1, keepdims=True))


def test_rounding_moves_heads_of_network_features_by_less_than_cross_validation_can_tell() -> None:
    """Ten deviations from zero, as those of lite0: logits within 2e-5 of their spread, losses within 1e-6."""
    (rounded_, asked), (exact, same) = solved("lite0@128:4", 10.0), solved("lite0@128:4", 10.0, exact=True)
    for tasks, dtype in ((asked, "float32"), (same, "float64")):
        (sums,) = (request for request in tasks.asked if request.task == "statistics")
        assert (sums.expected(15)["rows"].dtype, sums.expected(60)["gram"].dtype) == (dtype, dtype)
        assert (sums.expected(15)["labels"].dtype, sums.expected(60)["counts"].dtype) == ("float64", "float64")
    for name, outcome in exact.items():
        ours, theirs = centred(rounded_[name], asked), centred(outcome, same)
        np.testing.assert_allclose(ours, theirs, atol=2e-5 * theirs.std())
        assert (ours.argmax(axis=1) == theirs.argmax(axis=1)).all()
    losses = [outcomes["auto"].facts["losses"] for outcomes in (rounded_, exact)]
    assert losses[0] == pytest.approx(losses[1], abs=1e-6)


@pytest.mark.parametrize("tap", ["table", "table:table"])
def test_a_table_far_from_zero_keeps_every_digit(tap: str) -> None:
    """A year of birth, a serial number: the same heads as near zero, and those of the pooled cases."""
    (far, asked), (near, close) = solved(tap, 1e4), solved(tap, 0.0)
    (sums,) = (request for request in asked.asked if request.task == "statistics")
    assert {spec.dtype for cases in (15, 60) for spec in sums.expected(cases).values()} == {"float64"}
    for name, outcome in near.items():
        theirs = centred(outcome, close)
        np.testing.assert_allclose(centred(far[name], asked), theirs, atol=2e-3 * theirs.std())  # 1e4 in float32
        assert far[name].facts.get("cv_loss", 0.0) == pytest.approx(outcome.facts.get("cv_loss", 0.0), abs=1e-3)
    sites = asked.sites.values()
    values, label = (np.concatenate([getattr(site, part) for site in sites]) for part in ("values", "label"))
    family, facts = FAMILIES["discriminant"], far["discriminant"].facts
    pooled = family.heads(collect(values, label, 3))[family.strengths.index(facts["strength"])] * facts["temperature"]
    np.testing.assert_allclose(far["discriminant"].heads[""].weight, pooled[:, :-1], rtol=1e-5, atol=1e-5)
    assert far["discriminant"].heads[""].seen.all()


@settings(max_examples=25, deadline=None)
@given(cases=st.integers(1, 60), width=st.integers(1, 20), folds=st.integers(2, 5), seed=st.integers(0, 99))
def test_an_honest_message_is_true_after_rounding(cases: int, width: int, folds: int, seed: int) -> None:
    """Even where cases repeat, features are constant and classes are one case each."""
    rng = stream(seed, "rounded")
    values, label = rng.standard_normal((cases, width)).astype(np.float32) + 20, rng.integers(0, 3, cases)
    values[:, : width // 2], values[cases // 2 :] = 7.3, values[0]
    told = rounded(pack(values, label, 3, rng.integers(0, folds, cases), folds))
    assert untrue(told.arrays, cases) == ""
