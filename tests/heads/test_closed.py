"""Contract of every closed-form family, then what is special to each; scikit-learn is the oracle."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import Ridge as SklearnRidge
from sklearn.neighbors import NearestCentroid

from medtl_core.heads.closed_form import FAMILIES, Discriminant, Family, NearestMean, Ridge
from medtl_core.heads.statistics import TINY, collect, roots
from medtl_core.rng import stream
from medtl_core.values import ABSENT


def cloud(cases: int = 60, width: int = 5, classes: int = 3) -> tuple[np.ndarray, np.ndarray]:
    rng = stream(7, "cloud")
    label = np.arange(cases) % classes
    return rng.standard_normal((cases, width)) * np.arange(1, width + 1) + 2.0 * label[:, None], label


def logits(heads: np.ndarray, values: np.ndarray) -> np.ndarray:
    return np.einsum("nd,scd->snc", values, heads[:, :, :-1]) + heads[:, None, :, -1]


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
def test_every_family_is_finite_knows_no_unseen_class_and_ignores_scales(family: Family) -> None:
    values, label = cloud()
    heads = family.heads(collect(values, label, 4))
    assert heads.shape == (len(family.strengths), 4, 6) and np.isfinite(heads).all()
    assert (heads[:, 3, -1] == ABSENT).all()
    assert (logits(heads, values).argmax(axis=2) != 3).all()
    scale = np.array([1.0, 10.0, 0.1, 3.0, 1.0])
    plain = logits(family.heads(collect(values, label, 3)), values)
    scaled = logits(family.heads(collect(values * scale, label, 3)), values * scale)
    np.testing.assert_allclose(plain, scaled, atol=1e-3)
    single = family.heads(collect(np.array([[1.0, 2.0]]), np.array([1]), 2))
    assert np.isfinite(single).all()
    assert (logits(single, np.array([[5.0, -1.0]])).argmax(axis=2) == 1).all()


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
@pytest.mark.parametrize("chosen", [np.arange(40), np.arange(3, 37, 2)], ids=["all", "some"])
def test_in_the_span_of_few_cases_the_heads_are_the_same(family: Family, chosen: np.ndarray) -> None:
    values, label = cloud(12, 40)
    values[3] = values[0]
    cases = collect(values, label, 4)
    spanned = replace(cases, span=np.concatenate([root.rows for root in roots(values, label, 3)]))
    expected = family.heads(cases.select(chosen))
    np.testing.assert_allclose(
        family.heads(spanned.select(chosen)), expected, atol=1e-10 * np.abs(expected[:, :3]).max()
    )


def test_ridge_and_nearest_mean_equal_sklearns() -> None:
    values, label = cloud()
    made, standard = collect(values, label, 3), (values - values.mean(axis=0)) / (values.std(axis=0) + 1e-6)
    ridge = SklearnRidge(alpha=0.1 * 60).fit(standard, np.eye(3)[label])
    np.testing.assert_allclose(
        logits(Ridge(strengths=(0.1,)).heads(made), values)[0], ridge.predict(standard), atol=1e-8
    )
    nearest = logits(NearestMean().heads(made), values)[0].argmax(axis=1)
    assert (nearest == NearestCentroid().fit(standard, label).predict(standard)).all()
    shrunk = logits(Discriminant(strengths=(1.0,)).heads(made), values)[0]
    assert (shrunk.argmax(axis=1) == nearest).all()


def test_discriminant_equals_sklearn_lda() -> None:
    values, label = cloud()
    heads = Discriminant(strengths=(0.0,)).heads(collect(values, label, 3))
    oracle = LinearDiscriminantAnalysis(solver="lsqr", priors=np.full(3, 1 / 3)).fit(values, label)
    ours, theirs = logits(heads, values)[0], oracle.decision_function(values)
    centre = lambda z: z - z.mean(axis=1, keepdims=True)  # noqa: E731
    # scikit-learn divides the scatter by N, we by N - C
    np.testing.assert_allclose(centre(ours) * 60 / 57, centre(theirs), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("strength", [0.1, 0.5, 1.0])
def test_discriminant_takes_off_what_chance_adds_to_the_length_of_a_class_mean(strength: float) -> None:
    values, label = cloud()
    rare = np.flatnonzero((label != 2) | (np.arange(60) < 10))  # 20 cases of two classes, 3 of the last
    values, label = (values[rare] - values[rare].mean(axis=0)) / (values[rare].std(axis=0) + TINY), label[rare]
    counts = np.bincount(label)
    means = np.stack([values[label == one].mean(axis=0) for one in range(3)])
    within = (values - means[label]).T @ (values - means[label]) / (len(rare) - 3)
    shrunk = (1 - strength) * within + strength * np.trace(within) / 5 * np.eye(5)
    weights, chance = np.linalg.solve(shrunk, means.T).T, np.trace(np.linalg.solve(shrunk, within)) / counts
    expected = values @ weights.T - 0.5 * ((weights * means).sum(axis=1) - chance)
    ours = logits(Discriminant(strengths=(strength,)).heads(collect(values, label, 3)), values)[0]
    np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-4)
    assert chance[2] > 6 * chance[0]
