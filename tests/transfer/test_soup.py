"""Soups and snapshots: averages of weights from one start, and heads at the ends of learning-rate cycles."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medtl_core.calibrate import softmax
from medtl_core.config import Settings
from medtl_core.errors import ConfigError
from medtl_core.methods.outcome import Problem
from medtl_core.methods.study import Study
from medtl_core.methods.tasks import fit
from medtl_core.registry import read_methods
from medtl_core.transfer.mixture import Mixture
from medtl_core.transfer.soup import (
    INGREDIENTS,
    Ingredient,
    cyclic_rate,
    greedy,
    snapshot_fit,
    soup_fit,
    start_of,
    uniform,
)
from medtl_core.values import Head
from tests.memory import DirectHospitals, make_site

PROBLEM = Problem(("x", "y", "z"), "features", (("4", 0, 6),))
CONFIG = {
    "epochs": 2, "batch-size": 8, "learning-rate": 0.05, "weight-decay": 0.001, "proximal": 0.0, "round": 1, "of": 1,
}  # fmt: skip


def study(hospitals: DirectHospitals, methods: str, **changes: float) -> Study:
    return Study(hospitals, PROBLEM, Settings(**changes), read_methods(methods))


def test_only_heads_from_one_start_are_averaged() -> None:
    zero, other = np.zeros((3, 7)), np.full((3, 7), 1e-12)
    made = [Ingredient(np.full((3, 7), value), start_of(zero)) for value in (1.0, 2.0, 6.0)]
    np.testing.assert_array_equal(uniform(made), np.full((3, 7), 3.0))
    with pytest.raises(ConfigError, match="from the same start only"):
        uniform([*made, Ingredient(zero, start_of(other))])
    with pytest.raises(ConfigError, match="at least one ingredient"):
        uniform([])


@settings(max_examples=40, deadline=None)
@given(values=st.lists(st.floats(0.0, 2.0), min_size=15, max_size=15))
def test_the_greedy_soup_is_no_worse_than_its_best_ingredient(values: list[float]) -> None:
    sets = [frozenset(one) for size in range(1, 5) for one in combinations(range(4), size)]
    losses = dict(zip(sets, values, strict=True))
    chosen = greedy(losses)
    assert losses[chosen] <= min(losses[one] for one in losses if len(one) == 1)


def test_greedy_by_hand() -> None:
    names = {frozenset({0}): 0.5, frozenset({1}): 0.6, frozenset({0, 1}): 0.55}
    assert greedy(names) == {0}
    assert greedy({**names, frozenset({0, 1}): 0.4}) == {0, 1}


def test_every_ingredient_trains_by_its_own_recipe() -> None:
    site = make_site("a", 20)
    fixed = {"mean": np.zeros(6, np.float32), "scale": np.ones(6, np.float32)}
    heads = np.zeros((2, 1, 3, 7), np.float32)
    rates = {"rates": np.array([0.01, 0.2]), "decays": np.array([0.0, 0.1])}
    found = soup_fit(site, {"heads": heads, **fixed, **rates}, CONFIG).update.arrays["heads"]
    for index in range(2):
        own = {**CONFIG, "learning-rate": rates["rates"][index], "weight-decay": rates["decays"][index]}
        direct = fit(site, {"heads": heads[index], **fixed}, own).update.arrays["heads"]
        np.testing.assert_array_equal(found[index], direct)
    assert not np.array_equal(found[0], found[1])


def test_the_uniform_soup_contains_fedavg(hospitals: DirectHospitals) -> None:
    """One ingredient has FedAvg's own recipe: its head is FedAvg's, and the soup is the mean of all."""
    made = study(hospitals, "fedavg-3,soup-3")
    fedavg, soup = (made.outcome(method).heads[""] for method in made.methods)
    assert isinstance(soup, Head)
    trained, _ = made.once("soup-3", lambda: pytest.fail("the soup was trained twice"))
    assert trained.shape == (4, 1, 3, 7)
    plain = made.finished(trained[INGREDIENTS.index((1.0, 1.0)), 0], False)
    np.testing.assert_allclose(plain[:, :-1], fedavg.weight, rtol=1e-6)
    every = made.finished(trained[:, 0], False)
    np.testing.assert_allclose(soup.weight, every.mean(axis=0)[:, :-1], rtol=1e-12)


def test_the_greedy_soup_is_chosen_out_of_fold(hospitals: DirectHospitals) -> None:
    made = study(hospitals, "soup-3,soup-3-greedy,soup-3-greedy-adjusted")
    outcomes = [made.outcome(method) for method in made.methods]
    assert [request.task for request in hospitals.asked].count("soup_fit") == 3
    facts = outcomes[1].facts
    assert facts["cv_loss"] <= min(facts["cv_losses"].values())
    assert facts["ingredients"]
    assert outcomes[0].facts["ingredients"] == [list(one) for one in INGREDIENTS]
    assert outcomes[0].bill["soup-3"].work == pytest.approx(1 / 6)
    assert outcomes[2].facts["adjusted"]


def test_a_round_of_a_cycle_is_fedavg_at_its_rate() -> None:
    site = make_site("a", 20)
    arrays = {"heads": np.zeros((1, 3, 7), np.float32), "mean": np.zeros(6), "scale": np.ones(6)}
    for number in (1, 3, 4):
        config = {**CONFIG, "round": number, "length": 3}
        own = {**config, "learning-rate": 0.05 * cyclic_rate(number, 3)}
        np.testing.assert_array_equal(
            snapshot_fit(site, arrays, config).update.arrays["heads"], fit(site, arrays, own).update.arrays["heads"]
        )


@given(length=st.integers(1, 40))
def test_a_cycle_starts_high_and_ends_low(length: int) -> None:
    rates = [cyclic_rate(number, length) for number in range(1, length + 1)]
    assert rates[0] == 2.0
    assert rates == sorted(rates, reverse=True)
    assert min(rates) >= 0.0
    assert cyclic_rate(length + 1, length) == 2.0


def test_snapshots_are_the_ends_of_cycles(hospitals: DirectHospitals) -> None:
    made = study(hospitals, "snapshot-2x3,snapshot-2x3-adjusted")
    plain, adjusted = (made.outcome(method).heads[""] for method in made.methods)
    assert isinstance(plain, Mixture)
    assert isinstance(adjusted, Mixture)
    assert plain.members == ("round 3", "round 6")
    assert [request.task for request in hospitals.asked].count("snapshot_fit") == 6
    values = hospitals.sites["a"].values
    parts = [softmax(logits) for logits in plain.of_members(values).values()]
    np.testing.assert_allclose(softmax(plain.logits(values)), np.mean(parts, axis=0), atol=1e-12)
    counts = made.moments.counts
    shift = plain.heads[0, :, -1] - adjusted.heads[0, :, -1]
    np.testing.assert_allclose(shift, np.log(counts / counts.sum()))


@pytest.mark.parametrize("name", ["soup", "soup-0", "soup-3-adjusted-greedy", "snapshot-5", "snapshot-0x3"])
def test_other_names_are_unknown(name: str) -> None:
    with pytest.raises(ConfigError, match="unknown method"):
        read_methods(name)
