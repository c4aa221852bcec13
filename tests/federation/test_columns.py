"""The columns a head may read: within a backbone, and backbones side by side."""

import numpy as np

from medtl_core.config import Settings
from medtl_core.federation.memory import MemoryHospitals
from medtl_core.federation.outcome import Problem
from medtl_core.federation.registry import read_methods
from medtl_core.federation.study import Study
from medtl_core.heads.tap_subsets import column_choices

GROUPS = (("a:4", 0, 1), ("a:7", 1, 2), ("b:2", 2, 4), ("b:3", 4, 5), ("c:9", 5, 6))


def test_runs_stay_within_a_backbone_and_backbones_join_whole() -> None:
    found = {name: columns.tolist() for name, columns in column_choices(GROUPS).items()}
    assert found == {
        "a:4": [0], "a:4+a:7": [0, 1], "a:7": [1],
        "b:2": [2, 3], "b:2+b:3": [2, 3, 4], "b:3": [4],
        "c:9": [5],
        "a:4+a:7+b:2+b:3": [0, 1, 2, 3, 4], "a:4+a:7+c:9": [0, 1, 5], "b:2+b:3+c:9": [2, 3, 4, 5],
        "a:4+a:7+b:2+b:3+c:9": [0, 1, 2, 3, 4, 5],
    }  # fmt: skip


def test_taps_are_chosen_over_backbones(hospitals: MemoryHospitals) -> None:
    made = Study(hospitals, Problem(("x", "y", "z"), "f", GROUPS), Settings(), read_methods("discriminant-taps"))
    outcome = made.outcome(made.methods[0])
    losses = {taps: made.solved("discriminant", taps).choice.loss for taps in column_choices(GROUPS)}
    assert len(losses) == 11
    assert outcome.facts["taps"] == min(losses, key=lambda taps: losses[taps])
    used = np.flatnonzero(np.abs(outcome.heads[""].weight).sum(axis=0))
    assert used.tolist() == column_choices(GROUPS)[outcome.facts["taps"]].tolist()
