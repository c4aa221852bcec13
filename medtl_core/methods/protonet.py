"""ProtoNet across hospitals: an embedding trained on episodes, averaged, and one prototype a class from class sums."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from medtl_core.federation.hospitals import ArraySpec, Request, Value
from medtl_core.federation.method import Study
from medtl_core.federation.rounds import ROUNDS, as_float32
from medtl_core.heads.statistics import Float
from medtl_core.methods.episodes import Shape
from medtl_core.methods.models.network import BODY, HIDDEN, Network
from medtl_core.methods.network import NetworkTrained, start_of
from medtl_core.values import Array

#: Episodes a hospital trains on in one round, and the step of plain gradient descent on each one's mean query loss.
EPISODES, RATE = 20, 0.05


class ProtoNet(NetworkTrained):
    """An embedding trained on episodes and averaged; the nearest class mean answers."""

    syntax = f"protonet{ROUNDS}"
    example = "protonet-3"
    task = "fit_protonet"
    phases = ("sums",)
    reads = ()

    @property
    def facts(self) -> dict[str, Any]:
        """See NetworkTrained."""
        return {"rounds": self.rounds, "episodes": EPISODES, "rate": RATE}

    def start(self, study: Study) -> Mapping[str, Array]:
        """See Trained."""
        return {name: array for name, array in start_of(study).items() if name in BODY}

    def config(self, study: Study) -> Mapping[str, Value]:
        """See Trained."""
        return {**vars(Shape(ways=max(len(study.problem.classes), 2))), "episodes": EPISODES, "rate": RATE}

    def model(self, study: Study, arrays: Mapping[str, Float]) -> Network:
        """See Trained: the affine head that answers with the nearest prototype p of an embedded case h, 2 p'h - p'p."""
        classes = len(study.problem.classes)
        expect = {"sums": ArraySpec((classes, HIDDEN)), "counts": ArraySpec((classes,), least=0.0, step=1.0)}
        sent = {**self.sent(study), **as_float32(arrays)}
        request = Request("protonet_sums", sent, {}, expect, f"sums-{self.name}")
        sums = study.hospitals.total(request)
        centres = sums["sums"] / np.maximum(sums["counts"], 1.0)[:, None]
        head = {"head.weight": 2.0 * centres, "head.bias": -(centres**2).sum(axis=1)}
        return super().model(study, {**arrays, **head})


METHODS = (ProtoNet,)
