"""Scored cases that know something of their labels."""

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st

from medtl_core.values import Scores

FEW = settings(max_examples=25, deadline=None)
SEEDS = st.integers(0, 10_000)


def draw(
    cases: int, classes: int, seed: int, *, gain: float = 2.0, decimals: int | None = None,
    label: np.ndarray | None = None,
) -> Scores:  # fmt: skip
    """Cases of sites a, b and c; few decimals make ties."""
    rng = np.random.default_rng(seed)
    label = rng.integers(classes, size=cases) if label is None else label
    logits = rng.normal(size=(cases, classes)) * gain
    logits[np.arange(cases), label] += gain
    if decimals is not None:
        logits = logits.round(decimals)
    return Scores(
        logits, label, np.array(["a", "b", "c"])[rng.integers(3, size=cases)], rng.integers(cases, size=cases)
    )


def alike(logits: np.ndarray, label: list[int]) -> Scores:
    """Cases of one site, each of its own patient."""
    return Scores(np.asarray(logits, float), np.array(label), np.full(len(label), "a"), np.arange(len(label)))
