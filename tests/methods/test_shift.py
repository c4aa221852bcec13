"""The prior from unlabelled scores: expectation maximisation against a direct search, and what it may not read."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from safetensors.numpy import load_file

from medtl_core.federation.registry import answer, read_methods
from medtl_core.federation.study import Study
from medtl_core.methods.personal.label_shift import estimate_prior
from server.verdict import judge_all
from simulations.memory import MemoryHospitals
from tests.memory import PROBLEM, make_site
from tests.methods.personal_sites import (
    SETTINGS,
    ask,
    finished,
    judged,
    message,
    state_bytes,
    with_state,
)  # fmt: skip

EVEN = np.full(3, 1 / 3)


def shares(cases: int, prior: list[float], seed: int = 0) -> np.ndarray:
    """Exact posteriors under an even prior of three Gaussian classes, for cases drawn with another prior."""
    rng = np.random.default_rng(seed)
    label = rng.choice(3, cases, p=prior)
    means = np.array([[0.0, 0.0], [2.0, 0.0], [0.0, 2.0]])
    values = means[label] + rng.standard_normal((cases, 2))
    density = np.exp(-0.5 * ((values[:, None] - means) ** 2).sum(axis=2))
    return np.asarray(density / density.sum(axis=1, keepdims=True))


def test_it_is_the_maximum_of_the_likelihood() -> None:
    from scipy.optimize import minimize

    probabilities = shares(60, [0.6, 0.3, 0.1])

    def loss(free: np.ndarray) -> float:
        prior = np.exp(free) / np.exp(free).sum()
        return float(-np.log((probabilities * prior / EVEN).sum(axis=1)).sum())

    found = minimize(
        loss, np.zeros(3), method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-12, "maxiter": 5000}
    ).x
    np.testing.assert_allclose(estimate_prior(probabilities, EVEN), np.exp(found) / np.exp(found).sum(), atol=1e-4)


def test_certain_cases_are_counted() -> None:
    sure = np.eye(3)[[0, 0, 0, 1]]
    np.testing.assert_allclose(estimate_prior(sure, EVEN), [0.75, 0.25, 0.0], atol=1e-12)
    np.testing.assert_allclose(estimate_prior(sure, EVEN, smoothing=4.0), [13 / 24, 7 / 24, 4 / 24], atol=1e-12)


def test_a_class_nobody_has_shown_keeps_prior_zero_and_no_case_changes_nothing() -> None:
    np.testing.assert_array_equal(estimate_prior(np.zeros((0, 3)), EVEN), EVEN)
    found = estimate_prior(np.array([[0.5, 0.5, 0.0]]), np.array([0.5, 0.5, 0.0]), smoothing=10.0)
    np.testing.assert_allclose(found, [0.5, 0.5, 0.0])


@given(arrays(np.float64, (6, 3), elements=st.floats(0.001, 1.0)), st.floats(0, 50))
def test_it_is_a_prior_whatever_the_scores(raw: np.ndarray, smoothing: float) -> None:
    found = estimate_prior(raw / raw.sum(axis=1, keepdims=True), EVEN, smoothing=smoothing)
    assert found.sum() == pytest.approx(1.0)
    assert (found >= 0).all()


def test_labels_of_held_out_cases_are_not_read(tmp_path: Path) -> None:
    finished(tmp_path / "true", "prior-shift")
    for site in with_state(tmp_path / "wrong"):
        ask(replace(site, test_label=site.test_label[::-1].copy()), message("prior-shift", "_finish"))
    assert state_bytes(tmp_path / "wrong") == state_bytes(tmp_path / "true")


def test_without_held_out_cases_the_head_stays_the_federated_one(tmp_path: Path) -> None:
    site, request = with_state(tmp_path)[0], message("prior-shift", "_finish")
    ask(replace(site, test_values=site.test_values[:0]), request)
    theirs = answer("evaluate", site, {"heads": request.arrays["head"][None]}, {}).update.arrays["confusion"]
    np.testing.assert_array_equal(judged(site, "prior-shift")["confusion"], theirs)


def test_the_own_prior_is_that_of_the_training_labels_and_one_case_more_of_each(tmp_path: Path) -> None:
    request = message("prior-own", "_finish")
    for site in with_state(tmp_path):
        ask(site, request)
        counts = np.bincount(site.label, minlength=3)
        final, head = load_file(tmp_path / site.name / "prior-own.final.safetensors"), request.arrays["head"]
        prior = (counts + 1) / (counts.sum() + 3)
        np.testing.assert_allclose(final["bias"] - head[:, -1], np.log(3 * prior), atol=1e-5)
        np.testing.assert_allclose(final["weight"], head[:, :-1], rtol=1e-6)


@pytest.mark.parametrize("name", ["prior-own", "prior-shift"])
def test_where_hospitals_have_a_mix_of_their_own_their_prior_pays(tmp_path: Path, name: str) -> None:
    """Classes that overlap, and hospitals with nine cases in ten of one class, in training and held out alike."""
    sites = []
    for number, hospital in enumerate("abc"):
        site, rng = make_site(hospital, 60), np.random.default_rng(number)
        label, test = (np.where(rng.random(n) < 0.9, number, rng.integers(0, 3, n)) for n in (60, 300))
        means = np.eye(3, 6) * 1.5
        values, held = (means[one] + rng.standard_normal((len(one), 6)) for one in (label, test))
        patients = np.array([f"{hospital}{i}" for i in range(300)])
        sites.append(
            replace(
                site, values=values.astype(np.float32), label=label, test_values=held.astype(np.float32),
                test_label=test, test_patients=patients, state=tmp_path / hospital,
            )
        )  # fmt: skip
    made = Study(MemoryHospitals(sites), PROBLEM, SETTINGS, read_methods(f"discriminant,{name}"))
    plain, own = (verdict.judgement.figures["log_loss"] for verdict in judge_all(made, None).values())
    assert own < plain - 0.1  # type: ignore[operator]
