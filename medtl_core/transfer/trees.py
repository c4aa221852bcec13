"""Boosted trees as plain arrays: what scikit-learn fitted, answered by numpy, so that no pickle ever travels."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self, final

import numpy as np
from numpy.typing import NDArray

from medtl_core.errors import WeightsError
from medtl_core.heads.statistics import Float
from medtl_core.material import Material
from medtl_core.methods.model import Model, Packed
from medtl_core.values import ABSENT, Array

#: Arrays of the trees, all of one shape.
NAMES = ("feature", "threshold", "left", "right", "value")


@final
@dataclass(frozen=True)
class Trees(Model):
    """A sum of regression trees for every class, all padded to one shape; T trees a class of at most N nodes.

    A case goes to the left of a node if its `feature` is at most the `threshold`; a leaf is a node whose both ways lead
    back to itself.

    Attributes:
        feature, left, right: int64 [T, C, N].
        threshold, value: float64 [T, C, N].
        bias: float64 [C], what the sum starts from; `ABSENT` marks a class never seen.
        classes, fingerprint, facts: as every classifier's.
    """

    kind: ClassVar[str] = "trees"

    feature: NDArray[np.int64]
    threshold: Float
    left: NDArray[np.int64]
    right: NDArray[np.int64]
    value: Float
    bias: Float
    classes: tuple[str, ...]
    fingerprint: str
    facts: Mapping[str, Any] = field(default_factory=dict)

    def logits(self, values: NDArray[np.floating[Any]], material: Material | None = None) -> NDArray[np.float64]:
        """See Model."""
        wide = np.asarray(values, np.float64)
        if wide.shape[1] <= self.feature.max(initial=0):
            raise WeightsError(f"these trees read feature {self.feature.max()}, but there are {wide.shape[1]}")
        count, classes, nodes = self.feature.shape
        flat = {name: getattr(self, name).reshape(-1) for name in NAMES}
        root = np.arange(count * classes) * nodes
        here = np.broadcast_to(root, (len(wide), len(root)))  # each case's node in each tree
        rows = np.arange(len(wide))[:, None]
        for _ in range(nodes // 2):  # no path is longer
            below = wide[rows, flat["feature"][here]] <= flat["threshold"][here]
            step = root + np.where(below, flat["left"][here], flat["right"][here])
            if np.array_equal(step, here):
                break
            here = step
        return np.asarray(flat["value"][here].reshape(-1, count, classes).sum(axis=1) + self.bias)

    def pack(self) -> Packed:
        """See Model."""
        arrays = {name: getattr(self, name) for name in (*NAMES, "bias")}
        return Packed(arrays, {}, self.classes, self.fingerprint, self.facts)

    @classmethod
    def unpack(cls, packed: Packed) -> Self:
        """See Model."""
        missing = {*NAMES, "bias"} - packed.arrays.keys()
        if missing:
            raise WeightsError(f"trees lack {sorted(missing)[0]!r}; they were saved by something else")
        whole = {name: np.asarray(packed.arrays[name], np.int64) for name in ("feature", "left", "right")}
        real = {name: np.asarray(packed.arrays[name], np.float64) for name in ("threshold", "value", "bias")}
        shape = whole["feature"].shape
        fits = len(shape) == 3 and shape[1] == len(packed.classes) and real["bias"].shape == shape[1:2]
        if not fits or any(array.shape != shape for name, array in (whole | real).items() if name != "bias"):
            raise WeightsError("the arrays of trees do not fit together; they are damaged")
        ways = np.stack([whole["left"], whole["right"]])
        if whole["feature"].min(initial=0) < 0 or ways.min(initial=0) < 0 or ways.max(initial=0) >= shape[2]:
            raise WeightsError("trees point to a feature or node that is not there; they are damaged")
        parts: dict[str, Any] = {**whole, **real}
        return cls(**parts, classes=packed.classes, fingerprint=packed.fingerprint, facts=packed.facts)


def stumps(count: int, classes: int, nodes: int) -> dict[str, Array]:
    """Returns the arrays of trees that are one leaf of value 0, and a `bias` that answers nothing."""
    shape = (count, classes, nodes)
    self_loop = np.broadcast_to(np.arange(nodes), shape)
    return {
        "feature": np.zeros(shape, np.int64),
        "threshold": np.zeros(shape),
        "left": self_loop.copy(),
        "right": self_loop.copy(),
        "value": np.zeros(shape),
        "bias": np.full(classes, ABSENT),
    }


def exported(booster: Any, classes: int, nodes: int) -> dict[str, Array]:
    """Returns a fitted HistGradientBoostingClassifier's trees as arrays, equal to its `decision_function`.

    Two classes share one tree in scikit-learn: here each has a half of it, with opposite signs.

    Args:
        booster: fitted on finite features, without categories; its `classes_` are places among all classes.
        classes: number C of all classes; those it never saw are marked as absent.
        nodes: room for the nodes of a tree.
    """
    predictors, start = booster._predictors, np.asarray(booster._baseline_prediction, np.float64).ravel()
    seen = [int(place) for place in booster.classes_]
    signs = [(0, -0.5), (0, 0.5)] if len(seen) == 2 else [(number, 1.0) for number in range(len(seen))]
    arrays = stumps(len(predictors), classes, nodes)
    for place, (number, sign) in zip(seen, signs, strict=True):
        arrays["bias"][place] = sign * start[number]
        for tree, trees in enumerate(predictors):
            found = trees[number].nodes
            inner = np.flatnonzero(found["is_leaf"] == 0)
            arrays["value"][tree, place, : len(found)] = sign * found["value"] * found["is_leaf"]
            for name, source in (
                ("feature", "feature_idx"),
                ("threshold", "num_threshold"),
                ("left", "left"),
                ("right", "right"),
            ):
                arrays[name][tree, place, inner] = found[source][inner]
    return arrays


MODELS: tuple[type[Model], ...] = (Trees,)
