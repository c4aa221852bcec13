"""What a study knows before it asks, what a method needs and what it gives."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np

from medtl_core.evaluation.result import Cost
from medtl_core.federation.hospitals import Request
from medtl_core.federation.model import Classifier
from medtl_core.heads.statistics import Float
from medtl_core.privacy.patients import PublicMap
from medtl_core.values import Array, Scores, Update

#: From the scores of an ensemble's members on the server's cases to the ensemble's own scores, and facts of it.
Combine = Callable[[Mapping[str, Scores]], tuple[Scores, Mapping[str, Any]]]


@dataclass(frozen=True)
class Problem:
    """What the server knows of the features without seeing one.

    Attributes:
        classes: in agreed order.
        fingerprint: of the features.
        groups: (tap, start, stop) of the feature columns.
        views: label-preserving views of the data set.
        modality: the catalog's word for what the images show.
        followed: whether cases were followed over time.
        multi_label: whether the classes are findings, each there or not by itself.
        public: scale and directions of public images, where they are known; None = a private method reads the images.
    """

    classes: tuple[str, ...]
    fingerprint: str
    groups: tuple[tuple[str, int, int], ...]
    views: tuple[str, ...] = ("identity",)
    modality: str = "not stated"
    followed: bool = False
    multi_label: bool = False
    public: PublicMap | None = field(default=None, compare=False, repr=False)

    @property
    def width(self) -> int:
        """Number of features d."""
        return self.groups[-1][2]


@dataclass(frozen=True)
class Moments:
    """Pooled class counts [C], mean [d] and standard deviation [d], from sums."""

    counts: Float
    mean: Float
    scale: Float

    @property
    def standardisation(self) -> dict[str, Array]:
        """Mean and scale as they travel, float32 [d] each."""
        return {"mean": self.mean.astype(np.float32), "scale": self.scale.astype(np.float32)}


@dataclass(frozen=True)
class Rounds:
    """A need: the head of a gradient algorithm after so many rounds.

    Attributes:
        algorithm: what is trained; methods of the same one share their rounds.
        rounds: after which the head is wanted.
    """

    algorithm: str
    rounds: int


@dataclass(frozen=True)
class Share:
    """How much of a phase a method would have caused alone: what it is billed does not depend on its neighbours.

    A message that several methods share is billed as the one this method would have sent alone: in full, with headers
    and settings, less the exact bytes of the arrays that only others need. Processor time cannot be told apart like
    this and is divided by the number of heads.

    Attributes:
        rounds, work: shares of the phase's exchanges and of its CPU seconds.
        others_up, others_down: bytes in one reply, over all hospitals on average, and in one request that only others
            need.
    """

    rounds: float = 1.0
    work: float = 1.0
    others_up: float = 0
    others_down: float = 0

    @classmethod
    def among(cls, alone: int, together: int, *, up: float, down: float) -> Self:
        """Returns the share of a method that needs `alone` of `together` heads, each of so many bytes up and down."""
        others = together - alone
        return cls(1.0, alone / together, others * up, others * down)

    def of(self, cost: Cost, hospitals: int) -> Cost:
        """Returns this method's part of what a phase cost over so many hospitals."""
        messages = cost.rounds * hospitals
        return Cost(
            round(max(cost.bytes_up - messages * self.others_up, 0) * self.rounds),
            round(max(cost.bytes_down - messages * self.others_down, 0) * self.rounds),
            round(cost.rounds * self.rounds),
            cost.cpu_seconds * self.work,
            cost.wall_seconds * self.rounds,
        )


@dataclass(frozen=True)
class Outcome:
    """What a method gave.

    Attributes:
        heads: one federated classifier under "", or one for each hospital by name; empty with what follows.
        bill: what the method needs of each phase.
        server_cpu: CPU seconds the server spent solving.
        personal: asks every hospital for the evaluation sums, on its own held-out cases, of the model on its own disk.
        own_sums: evaluation sums, by hospital, of models that never left, each judged on its own held-out cases.
        members: heads of an ensemble whose weights need the server's labelled cases.
        combine: makes that ensemble. No case may choose the weights under which it is itself judged (see
            `methods.cross_fitting.cross_fitted`).
    """

    heads: Mapping[str, Classifier]
    bill: Mapping[str, Share]
    server_cpu: float = 0.0
    facts: Mapping[str, Any] = field(default_factory=dict)
    personal: Request | None = None
    own_sums: Mapping[str, Update] = field(default_factory=dict)
    members: Mapping[str, Classifier] = field(default_factory=dict)
    combine: Combine | None = None
