"""One-round private heads: without noise they are scikit-learn's, on rows of length one."""

import numpy as np
from sklearn.neighbors import NearestCentroid

from medtl_core.federation.registry import find_method
from medtl_core.methods.private.gram import packed
from medtl_core.methods.private.noisy_sums import private_statistics
from medtl_core.privacy.patients import unit
from medtl_core.privacy.plan import Terms
from tests.memory import make_site
from tests.methods.exact_hospitals import exact_study

TERMS = Terms(4.0, 1e-5, hospitals=5, colluders=1, cases=30, width=40, classes=3, secure=False)


def trained(name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Logits, rows of length one, and labels of all hospitals' training cases."""
    study = exact_study(name)
    model = study.outcome(find_method(name)).heads[""]
    sites = study.hospitals.sites.values()  # type: ignore[attr-defined]
    values, label = (np.concatenate([getattr(site, part) for site in sites]) for part in ("values", "label"))
    return model.logits(values), unit(values.astype(np.float64)), label


def test_nearest_mean_is_nearest_centroid() -> None:
    logits, rows, label = trained("private-mean")
    oracle = NearestCentroid().fit(rows, label)
    assert logits.argmax(axis=1).tolist() == oracle.predict(rows).tolist()
    gaps = -0.5 * ((rows[:, None] - oracle.centroids_[None]) ** 2).sum(axis=2)
    np.testing.assert_allclose(logits - logits[:, :1], gaps - gaps[:, :1], atol=1e-6)


def test_the_discriminant_tells_classes_apart() -> None:
    logits, _, label = trained("private-discriminant")
    assert float((logits.argmax(axis=1) == label).mean()) > 0.7


def test_the_statistics_are_counts_sums_and_second_moment() -> None:
    site = make_site("a", 12)
    map_ = {"mean": np.zeros(6), "scale": np.ones(6), "basis": np.eye(6)}
    found = private_statistics(site, map_, {"gram": True})
    rows = unit(site.values.astype(np.float64))
    assert found.update.arrays["counts"].tolist() == [4.0, 4.0, 4.0]
    for number in range(3):
        np.testing.assert_allclose(found.update.arrays["sums"][number], rows[site.label == number].sum(axis=0))
    np.testing.assert_allclose(found.update.arrays["gram"], packed(rows.T @ rows))
    assert "gram" not in private_statistics(site, map_, {"gram": False}).update.arrays


def test_a_class_that_noise_made_negative_is_taken_as_a_fifth_of_its_share() -> None:
    """Two hospitals' worth of one class only: the empty classes' means do not blow up."""
    study = exact_study("private-mean")
    for site in study.hospitals.sites.values():  # type: ignore[attr-defined]
        site.label[:] = 0
    model = study.outcome(find_method("private-mean")).heads[""]
    assert np.isfinite(model.weight).all()  # type: ignore[union-attr]
    assert model.weight[1:].tolist() == np.zeros((2, 6)).tolist()  # type: ignore[union-attr]
