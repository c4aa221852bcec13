"""What ProtoNet asks of a hospital: episodes that train an embedding, and class sums in it for the prototypes."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from medtl_core.federation.tasks import Arrays, Config, SiteData
from medtl_core.methods.episodes import Side, episodic_sgd
from medtl_core.methods.models.network import BODY, embed, embedded
from medtl_core.values import Released, Update

if TYPE_CHECKING:
    from torch import Tensor


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


TASKS = {
    "fit_protonet": episodic_sgd("protonet", BODY, lambda config: episode_loss, count="episodes", rate="rate"),
    "protonet_sums": protonet_sums,
}
