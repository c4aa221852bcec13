"""The membership attack on made-up confidences whose truth is known."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from medtl_core.audit.membership import areas, halves, likelihood_ratio, membership, most_auc
from medtl_core.errors import PrivacyError
from medtl_core.privacy.accounting import mu_for
from medtl_core.rng import stream


def confidences(mu: float, member: np.ndarray, seed: int) -> np.ndarray:
    """A mu-GDP head's confidence about each patient, on a level of the patient's own."""
    rng = stream(seed, "confidences")
    level = 3.0 * rng.standard_normal(member.shape[1])
    return level + mu * member + rng.standard_normal(member.shape)


@settings(max_examples=40)
@given(st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=2, max_size=40))
def test_area_is_sklearns(pairs: list[tuple[int, bool]]) -> None:
    scores, member = np.array([pair[0] for pair in pairs], float), np.array([pair[1] for pair in pairs])
    (area,) = areas(scores[None], member[None])
    if member.all() or not member.any():
        assert np.isnan(area)
    else:
        assert area == pytest.approx(roc_auc_score(member, scores))


def test_every_patient_is_in_half_of_the_heads() -> None:
    member = halves(32, 11, rng=stream(2, "halves"))
    assert member.shape == (32, 11)
    assert member.sum(axis=0).tolist() == [16] * 11
    assert len({row.tobytes() for row in member}) > 16
    for heads, patients in ((14, 10), (17, 10), (32, 3)):
        with pytest.raises(PrivacyError):
            halves(heads, patients, rng=stream(0, "halves"))


def test_likelihood_ratio_is_the_ratio_from_the_other_heads() -> None:
    member = halves(16, 5, rng=stream(3, "halves"))
    known = confidences(1.0, member, 3)
    found = likelihood_ratio(known, member)
    for head in (0, 9):
        others = np.arange(16) != head
        logs = []
        for side in (member, ~member):
            columns = [known[others & side[:, patient], patient] for patient in range(5)]
            own = np.array([column.var(ddof=1) for column in columns])
            spread = np.sqrt((own + own.mean()) / 2)
            logs.append(norm.logpdf(known[head], [column.mean() for column in columns], spread))
        np.testing.assert_allclose(found[head], logs[0] - logs[1])


@pytest.mark.parametrize("mu", [0.0, 0.5, 0.925, 1.67])
def test_the_attack_comes_close_to_the_most_there_is_and_not_above(mu: float) -> None:
    found = []
    for seed in range(20):
        member = halves(64, 40, rng=stream(seed, "halves"))
        found.append(membership(likelihood_ratio(confidences(mu, member, seed), member), member))
    assert np.mean([one["low"] <= most_auc(mu) for one in found]) >= 0.9
    assert most_auc(mu) - 0.03 < np.mean([one["auc"] for one in found]) < most_auc(mu) + 0.01
    caught = norm.cdf(mu - norm.ppf(0.99))
    assert 0.6 * caught < np.mean([one["caught"] for one in found]) < 1.3 * caught


def test_most_auc_is_that_of_two_gaussians() -> None:
    rng = stream(4, "gaussians")
    scores = np.concatenate([rng.standard_normal(20_000), rng.standard_normal(20_000) + 1.3])
    assert roc_auc_score(np.arange(40_000) >= 20_000, scores) == pytest.approx(most_auc(1.3), abs=0.006)
    # at delta 1e-3, epsilon 1, 3 and 8 allow .61, .75 and .93
    assert [round(most_auc(mu_for(epsilon, 1e-3)), 2) for epsilon in (1.0, 3.0, 8.0)] == [0.61, 0.75, 0.93]
