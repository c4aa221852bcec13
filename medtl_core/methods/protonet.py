"""ProtoNet across hospitals: an embedding trained on episodes, averaged, and one prototype a class from class sums."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, final

import numpy as np

from medtl_core.federation.folds import total
from medtl_core.federation.hospitals import ArraySpec, Request, Value
from medtl_core.federation.method import Method
from medtl_core.federation.rounds import as_float32
from medtl_core.federation.study import Study
from medtl_core.federation.tasks import Arrays, Config, SiteData, Task
from medtl_core.heads.statistics import Float
from medtl_core.methods.episodes import Shape, Side, episodic_sgd
from medtl_core.methods.models.network import BODY, HIDDEN, Network, embed, embedded
from medtl_core.methods.network import NetworkTrained, network_of
from medtl_core.values import Array, Released, Update

if TYPE_CHECKING:
    from torch import Tensor

#: Episodes a hospital trains on in one round.
EPISODES = 20
#: Step of plain gradient descent on the mean query loss of an episode.
RATE = 0.05


def episode_loss(arrays: Mapping[str, "Tensor"], support: Side, query: Side, classes: "Tensor") -> "Tensor":
    """Returns the mean query loss in nats: softmax over minus squared distances (Snell et al., NeurIPS 2017, eq. 2).

    Args:
        arrays: `body.weight` and `body.bias` of the small network.
        support: standardised features [s, d] and their ways [s]; the prototypes are the means of each way.
        query: the same for [q] cases.
        classes: not read.
    """
    from torch import cdist
    from torch.nn.functional import cross_entropy, one_hot

    member = one_hot(support[1]).float()
    centres = (member.T @ embed(arrays, support[0])) / member.sum(dim=0)[:, None]
    apart = cdist(embed(arrays, query[0]), centres, compute_mode="donot_use_mm_for_euclid_dist")
    return cross_entropy(-(apart**2), query[1])


def protonet_sums(site: SiteData, arrays: Arrays, config: Config) -> Released:
    """Sums of the embedded cases of each class [C, h] and their numbers [C]."""
    onehot = np.eye(site.classes)[site.label]
    return Released(Update({"sums": onehot.T @ embedded(site.values, arrays), "counts": onehot.sum(axis=0)}))


@final
@dataclass(frozen=True)
class ProtoNet(NetworkTrained):
    """Federated averaging of an embedding trained on episodes; the federation's prototypes classify."""

    syntax: ClassVar[str] = r"protonet-(?P<rounds>[1-9][0-9]{0,3})"
    example: ClassVar[str] = "protonet-3"
    summary: ClassVar[str] = "an embedding trained on episodes and averaged; the nearest class mean answers"
    task: ClassVar[str] = "fit_protonet"
    phases: ClassVar[tuple[str, ...]] = ("sums",)

    def start(self, study: Study) -> Mapping[str, Array]:
        """See Trained."""
        whole = super().start(study)
        return {name: whole[name] for name in BODY}

    def config(self, study: Study) -> Mapping[str, Value]:
        """See Trained."""
        shape = Shape(ways=max(len(study.problem.classes), 2))
        return {**vars(shape), "episodes": EPISODES, "rate": RATE}

    def model(self, study: Study, arrays: Mapping[str, Float]) -> Network:
        """See Trained: the affine head that answers with the nearest prototype p of an embedded case h, 2 p'h - p'p."""
        classes = len(study.problem.classes)
        expect = {"sums": ArraySpec((classes, HIDDEN)), "counts": ArraySpec((classes,))}
        sent = {**self.sent(study), **as_float32(arrays)}
        request = Request("protonet_sums", sent, {}, expect, f"sums-{self.name}")
        sums = total(reply.arrays for reply in study.hospitals.ask(request))
        centres = sums["sums"] / np.maximum(sums["counts"], 1.0)[:, None]
        head = {"head.weight": 2.0 * centres, "head.bias": -(centres**2).sum(axis=1)}
        return network_of(study, {**arrays, **head}, {**self.facts, "episodes": EPISODES, "rate": RATE})


METHODS: tuple[type[Method], ...] = (ProtoNet,)
TASKS: Mapping[str, Task] = {
    "fit_protonet": episodic_sgd("protonet", BODY, lambda config: episode_loss, count="episodes", rate="rate"),
    "protonet_sums": protonet_sums,
}
