"""Survival over hospitals: the pooled fit, Breslow's ties by hand, and what is refused."""

from functools import cache
from typing import Any

import numpy as np
import pytest

from medtl_core.errors import DataError
from medtl_core.federation.registry import answer
from medtl_core.methods.tables.cox import PENALTIES, Followed, likelihood
from medtl_core.methods.tables.records import TableHead
from tests.methods.followed import TRUE, WIDTH, opened, outcome, site, tables

SITES = [site("a", 40), site("b", 30), site("c", 20)]


@cache
def fitted() -> tuple[TableHead, Any]:
    result, _ = outcome(SITES, "cox")
    model = result.heads[""]
    assert isinstance(model, TableHead)
    return model, result.facts


def pooled() -> tuple[list[np.ndarray], list[np.ndarray], list[np.ndarray]]:
    """Inputs, times and events, hospital by hospital."""
    model, _ = fitted()
    inputs = [model.scaling.inputs(tables([one])) for one in SITES]
    times = [one.material.examples["time"] for one in SITES]  # type: ignore[union-attr]
    return inputs, times, [one.label == 1 for one in SITES]


def test_hospitals_reach_the_maximum_of_the_pooled_stratified_likelihood() -> None:
    model, facts = fitted()
    inputs, times, events = pooled()

    def loss(weights: np.ndarray) -> float:
        total = 0.0
        for x, t, event in zip(inputs, times, events, strict=True):
            for case in np.flatnonzero(event):
                total += x[case] @ weights - np.log(np.exp(x[t >= t[case]] @ weights).sum())
        return float(-total / sum(map(len, times)) + facts["penalty"] * weights @ weights / 2)

    best, steps = model.head[1, :-1], 1e-4 * np.eye(2 * WIDTH)
    slope = [loss(best + step) - loss(best - step) for step in steps]  # the loss is convex: no slope, no better fit
    np.testing.assert_allclose(slope, 0.0, atol=1e-10)
    assert facts["penalty"] in PENALTIES and facts["exchanges"] < 12
    assert np.corrcoef(model.head[1, :WIDTH], TRUE)[0, 1] > 0.8


@pytest.mark.slow
def test_lifelines_has_the_same_coefficients() -> None:
    lifelines = pytest.importorskip("lifelines", reason="lifelines is the oracle; it comes with the extra dev")
    import pandas

    model, facts = fitted()
    inputs, times, events = (np.concatenate(part) for part in pooled())
    frame = pandas.DataFrame(inputs[:, :WIDTH]).assign(time=times, event=events)
    frame["site"] = np.repeat([one.name for one in SITES], [len(one.label) for one in SITES])
    spread = inputs[:, :WIDTH].std(axis=0, ddof=1)  # by which lifelines divides before it penalises
    fit = lifelines.CoxPHFitter(penalizer=facts["penalty"] / spread**2).fit(frame, "time", "event", strata=["site"])
    np.testing.assert_allclose(model.head[1, :WIDTH], fit.params_, atol=1e-4)


def test_ties_are_breslows_and_the_hessian_is_the_gradients_slope() -> None:
    x = np.array([[0.0], [1.0], [2.0], [3.0]])
    times, event = np.array([1.0, 1.0, 2.0, 2.0]), np.array([True, True, True, False])
    # at 0 every hazard is 1: two events share the risk set of all four, one has that of the last two
    value, gradient, hessian = likelihood(Followed(x, times, event), np.zeros(1))
    assert value == pytest.approx(-2 * np.log(4) - np.log(2))
    assert gradient == pytest.approx([3.0 - 2 * 1.5 - 2.5])
    assert hessian.tolist() == [[pytest.approx(2 * 1.25 + 0.25)]]
    assert likelihood(Followed(x, times, np.zeros(4, bool)), np.ones(1))[0] == 0.0
    far = likelihood(Followed(x + 1000.0, times, event), np.ones(1))  # hazards that no float holds
    assert far[0] == pytest.approx(likelihood(Followed(x, times, event), np.ones(1))[0])


def test_a_hospital_without_an_event_or_without_times() -> None:
    quiet = opened("d", np.zeros((3, WIDTH)), np.zeros(3, np.int64), np.ones(3))
    alone, _ = outcome([*SITES, quiet], "cox")
    assert alone.facts["strata"] == "hospital"
    timeless = opened("d", np.zeros((3, WIDTH)), np.zeros(3, np.int64))
    with pytest.raises(DataError, match="times"):
        outcome([timeless], "cox")


def test_only_sums_of_the_agreed_shapes_leave() -> None:
    weights = np.zeros((4, len(PENALTIES), 2 * WIDTH))
    arrays = {"centre": np.zeros(WIDTH), "scale": np.ones(WIDTH), "weights": weights}
    sent = {name: array.shape for name, array in answer("cox_sums", SITES[0], arrays, {}).update.arrays.items()}
    d = 2 * WIDTH
    assert sent == {"value": (4, 5), "gradient": (4, 5, d), "hessian": (4, 5, d * (d + 1) // 2)}
