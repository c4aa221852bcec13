"""Epsilon against dp-accounting's PLD, an independent implementation, and refusals of what cannot be priced."""

import math

import dp_accounting as dpa
import numpy as np
import pytest
from dp_accounting.pld import PLDAccountant
from hypothesis import given
from hypothesis import strategies as st

from medtl_core.config import Settings
from medtl_core.errors import ConfigError, PrivacyError
from medtl_core.federation.private import terms_of
from medtl_core.privacy import accounting
from medtl_core.privacy.accounting import default_delta, delta_of, epsilon, mu_for, mu_of
from medtl_core.privacy.plan import GaussianEvent

RUN = Settings(sites=3, shots=20, privacy="auto", epsilon=2.0)


def pld(events: list[GaussianEvent], delta: float, interval: float) -> float:
    accountant = PLDAccountant(value_discretization_interval=interval)
    for event in events:
        accountant.compose(dpa.GaussianDpEvent(event.noise_multiplier), event.count)
    return float(accountant.get_epsilon(delta))


@pytest.mark.parametrize("block", range(4))
def test_exact_epsilon_is_never_below_pld(block: int) -> None:
    rng = np.random.default_rng(block)
    for _ in range(40):
        delta = float(10 ** rng.uniform(-7, -3))
        multipliers = 10 ** rng.uniform(-0.1, 1.6, size=rng.integers(1, 4))
        events = [GaussianEvent(float(one), count=int(rng.integers(1, 30))) for one in multipliers]
        ours = epsilon(events, delta)
        # a finer grid costs time and shows nothing: the oracle lies above the truth, and here by less than 1e-3
        theirs = pld(events, delta, max(ours, 1e-3) / 200 if ours < 0.3 else max(1e-3, ours / 1500))
        assert ours >= theirs - 1e-3, (events, delta)
        assert ours <= theirs + 1e-3 + 0.01 * theirs, (events, delta)


@given(st.floats(0.05, 20.0), st.sampled_from([1e-6, 1e-5, 1e-3]))
def test_calibration_keeps_the_promise_and_wastes_nothing(target: float, delta: float) -> None:
    mu = mu_for(target, delta)
    spent = epsilon([GaussianEvent(1.0 / mu)], delta)
    assert target * (1 - 1e-6) <= spent <= target


@given(st.lists(st.floats(0.5, 50.0), min_size=1, max_size=5), st.integers(1, 9))
def test_composition_is_one_release_of_the_root_sum_of_squares(multipliers: list[float], count: int) -> None:
    events = [GaussianEvent(one, count=count) for one in multipliers]
    together, mu = epsilon(events, 1e-5), mu_of(events)
    assert together == pytest.approx(epsilon([GaussianEvent(1.0 / mu)], 1e-5), rel=1e-9, abs=1e-12)
    assert delta_of(together, mu) <= 1e-5 * (1 + 1e-9)


@pytest.mark.parametrize(
    "event",
    [
        *(GaussianEvent(multiplier) for multiplier in (0.0, -1.0, math.nan, math.inf)),
        *(GaussianEvent(1.0, sampling) for sampling in (0.0, 0.2, 1.5, math.nan)),
        GaussianEvent(1.0, 1.0, -5), GaussianEvent(1.0, 1.0, True),
    ],
)  # fmt: skip
def test_what_cannot_be_priced_is_refused(event: GaussianEvent) -> None:
    with pytest.raises(PrivacyError):
        epsilon([event], 1e-5)


def test_what_promises_nothing_is_refused() -> None:
    for delta in (0.0, 1.0, 2.0, -1e-5, math.nan):
        with pytest.raises(PrivacyError, match="delta"):
            epsilon([GaussianEvent(1.0)], delta)
    for value in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(PrivacyError, match="epsilon"):
            mu_for(value, 1e-5)


def test_an_accountant_that_fails_stops_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    for value in (math.nan, -3.0, math.inf):
        monkeypatch.setattr(accounting, "_epsilon_of", lambda mu, delta, value=value: value)
        with pytest.raises(PrivacyError, match="nothing may be released"):
            epsilon([GaussianEvent(1.0)], 1e-5)


def test_delta_is_far_below_one_over_n_by_default_and_is_part_of_the_promise() -> None:
    assert terms_of(RUN.replace(public_cases=90_000), 6, 3).delta == pytest.approx(1 / 900_000)
    assert terms_of(RUN, 6, 3).delta == default_delta(20) == default_delta(90) == 1e-5
    assert default_delta(10**6) == pytest.approx(1e-7)
    assert delta_of(2.0, mu_for(2.0, 1e-5)) <= 1e-5
    assert mu_for(2.0, 1e-7) < mu_for(2.0, 1e-5)  # a smaller delta costs noise: it cannot be read off afterwards


@pytest.mark.parametrize(("shots", "delta"), [(20, 0.05), (49, 1 / 49), (20, 0.5), (1000, 1e-3)])
def test_a_promise_to_nobody_is_refused(shots: int, delta: float) -> None:
    """delta = 1/n allows publishing one patient whole."""
    with pytest.raises(ConfigError, match="promises little"):
        RUN.replace(shots=shots, delta=delta)


def test_privacy_of_a_single_patient_is_refused() -> None:
    with pytest.raises(ConfigError, match="public number of patients"):
        RUN.replace(shots=1)
