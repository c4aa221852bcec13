"""What the constants of `private-auto` are read from: noise as planned, the same figures every time."""

import numpy as np
import pytest

from medtl_core.config import Settings
from medtl_core.methods.private.public_pca import map_of
from medtl_core.values import Examples, Task
from simulations import private_rule
from simulations.federation import Cases
from simulations.private_rule import Trial, accuracy, thinned

ROWS = 240


def classes(images: str) -> Cases:
    """Three Gaussian classes in six columns, as the features of images."""
    rng = np.random.default_rng(0)
    label = np.arange(ROWS) % 3
    values = (3 * np.eye(6)[label] + rng.standard_normal((ROWS, 6))).astype(np.float32)
    names = np.array([f"p{row}" for row in range(ROWS)])
    columns = {
        "label": label,
        "patient": names,
        "site": np.full(ROWS, images),
        "split": np.where(np.arange(ROWS) < ROWS // 2, "test", "train"),
    }
    return Cases(Examples(columns, Task(images, ("a", "b", "c"))), values, "f", (("tap", 0, 6),), Settings())


@pytest.fixture(autouse=True)
def _no_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(private_rule, "read", classes)
    monkeypatch.setattr(private_rule, "public_map", lambda images: map_of(classes(images).values))


@pytest.mark.parametrize("method", ["private-auto", "private-prototypes-4-cosine"])
def test_accuracy_falls_with_epsilon_and_comes_back(method: str) -> None:
    trial = Trial("made", 3, 30)
    strong, weak = (np.mean([accuracy(trial, method, epsilon, seed) for seed in range(2)]) for epsilon in (0.05, 50.0))
    assert strong < 50 < 80 < weak
    assert accuracy(trial, method, 1.0, 3) == accuracy(trial, method, 1.0, 3)


def test_rare_classes_keep_a_share_of_a_share() -> None:
    rows = thinned(classes("made"), 0.5)
    assert np.bincount(classes("made").examples["label"][rows]).tolist() == [40, 20, 10]


def test_a_map_has_the_directions_that_spread_most_first() -> None:
    rng = np.random.default_rng(1)
    values = rng.standard_normal((200, 1)) @ np.ones((1, 4)) + 0.1 * rng.standard_normal((200, 4))
    found = map_of(values)
    np.testing.assert_allclose(np.abs(found.basis[:, 0]), 0.5, atol=0.01)
    np.testing.assert_allclose(found.mean, values.mean(axis=0))
