"""ProtoNet across hospitals: an embedding trained on episodes, averaged, and one prototype a class from class sums."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, final

import numpy as np
from numpy.typing import NDArray

from medtl_core.errors import DataError
from medtl_core.federation.folds import total
from medtl_core.federation.hospitals import ArraySpec, Request
from medtl_core.federation.method import Method
from medtl_core.federation.outcome import Outcome, Share
from medtl_core.federation.rounds import Exchange, run_rounds
from medtl_core.federation.study import Study
from medtl_core.federation.tasks import Arrays, Config, SiteData, Task
from medtl_core.heads.statistics import Float
from medtl_core.methods.episodes import Episode, Shape, sample
from medtl_core.methods.network import BODY, HIDDEN, Network, embed, network_of, standardised, start_of
from medtl_core.rng import stream
from medtl_core.values import Array, Released, Update

if TYPE_CHECKING:
    from torch import Tensor

#: Episodes a hospital trains on in one round.
EPISODES = 20
#: Step of plain gradient descent on the mean query loss of an episode.
RATE = 0.05


def prototypes(embedded: "Tensor", way: "Tensor", ways: int) -> "Tensor":
    """Returns the mean embedded case of each class [N, h] of cases [n, h]; every class must have one.

    Example:
        >>> import torch
        >>> prototypes(torch.tensor([[0.0], [2.0], [5.0]]), torch.tensor([0, 0, 1]), 2).tolist()
        [[1.0], [5.0]]
    """
    import torch

    onehot = torch.nn.functional.one_hot(way, ways).to(embedded.dtype)
    return (onehot.T @ embedded) / onehot.sum(dim=0)[:, None]


def episode_loss(arrays: Mapping[str, "Tensor"], support: tuple["Tensor", "Tensor"], query: tuple["Tensor", "Tensor"],
                 ways: int) -> "Tensor":  # fmt: skip
    """Returns the mean query loss in nats: softmax over minus squared distances (Snell et al., NeurIPS 2017, eq. 2).

    Args:
        arrays: `body.weight` and `body.bias` of the small network.
        support: standardised features [s, d] and their ways [s].
        query: the same for [q] cases.
        ways: number of classes N.
    """
    import torch

    centres = prototypes(embed(arrays, support[0]), support[1], ways)
    apart = torch.cdist(embed(arrays, query[0]), centres, compute_mode="donot_use_mm_for_euclid_dist")
    return torch.nn.functional.cross_entropy(-(apart**2), query[1])


def train_embedding(
    arrays: Arrays, inputs: NDArray[np.float32], episodes: list[Episode], label: NDArray[np.int64], rate: float
) -> tuple[dict[str, Array], list[float]]:
    """Returns the body's arrays, float32, after one gradient step an episode, and the episodes' losses.

    Args:
        arrays: holds the arrays of `BODY`.
        inputs: standardised features [n, d].
        episodes: tasks over these cases.
        label: int [n].
        rate: step size.

    Raises:
        DataError: training diverged; the hospital sits out this round.
    """
    import torch

    features = torch.from_numpy(inputs)
    body = {name: torch.tensor(np.asarray(arrays[name], np.float32), requires_grad=True) for name in BODY}
    losses = []
    for episode in episodes:
        sides = [
            (features[torch.from_numpy(rows)], torch.from_numpy(way))
            for rows, way in zip((episode.support, episode.query), episode.ways(label), strict=True)
        ]
        loss = episode_loss(body, sides[0], sides[1], len(episode.classes))
        slopes = torch.autograd.grad(loss, list(body.values()))
        losses.append(float(loss.detach()))
        with torch.no_grad():
            for array, slope in zip(body.values(), slopes, strict=True):
                array -= rate * slope
    done = {name: array.detach().numpy() for name, array in body.items()}
    if not all(np.isfinite(array).all() for array in done.values()):
        raise DataError("episodic training diverged (an array is not finite); lower its rate")
    return done, losses


def fit_protonet(site: SiteData, arrays: Arrays, config: Config) -> Released:
    """One round of episodes at a hospital; reads `mean`, `scale` and the body."""
    rng = stream(site.seed, "protonet", site.name, int(config["round"]))
    shape = Shape(int(config["ways"]), int(config["shots"]), int(config["queries"]))
    tasks = [sample(site.label, site.patients, shape, rng=rng) for _ in range(int(config["episodes"]))]
    inputs = standardised(site.values, arrays["mean"], arrays["scale"])
    done, losses = train_embedding(arrays, inputs, tasks, site.label, float(config["rate"]))
    return Released(Update(done), metrics={"loss-before": losses[0], "loss-after": losses[-1]})


def protonet_sums(site: SiteData, arrays: Arrays, config: Config) -> Released:
    """Sums of the embedded cases of each class [C, h] and their numbers [C]."""
    onehot = np.eye(site.classes)[site.label]
    inputs = standardised(site.values, arrays["mean"], arrays["scale"]).astype(np.float64)
    embedded = np.tanh(inputs @ arrays["body.weight"].T + arrays["body.bias"])
    return Released(Update({"sums": onehot.T @ embedded, "counts": onehot.sum(axis=0)}))


def nearest(centres: Float) -> dict[str, Array]:
    """Returns the affine head that answers with the nearest of the centres [C, h]: 2 p'h - p'p, float32.

    Example:
        >>> head = nearest(np.array([[1.0], [3.0]]))
        >>> (np.array([[1.9]]) @ head["head.weight"].T + head["head.bias"]).argmax().item()
        0
    """
    return {
        "head.weight": (2.0 * centres).astype(np.float32),
        "head.bias": -(centres**2).sum(axis=1).astype(np.float32),
    }


@final
@dataclass(frozen=True)
class ProtoNet(Method):
    """Federated averaging of an embedding trained on episodes; the federation's prototypes classify.

    Attributes:
        rounds: of training.
    """

    syntax: ClassVar[str] = r"protonet-(?P<rounds>[1-9][0-9]{0,3})"
    example: ClassVar[str] = "protonet-3"
    summary: ClassVar[str] = "an embedding trained on episodes and averaged; the nearest class mean answers"

    rounds: int

    def outcome(self, study: Study) -> Outcome:
        """See Method."""
        phases, fixed = (f"fit-{self.name}", f"sums-{self.name}"), study.moments.standardisation
        shape = Shape(ways=max(len(study.problem.classes), 2))
        config = {**vars(shape), "episodes": EPISODES, "rate": RATE}
        start = start_of(study)
        body = {name: start[name] for name in BODY}
        trained = run_rounds(
            study.hospitals, Exchange("fit_protonet", phases[0], self.rounds, config, fixed), body
        ).last  # fmt: skip
        classes = len(study.problem.classes)
        expect = {"sums": ArraySpec((classes, HIDDEN)), "counts": ArraySpec((classes,))}
        request = Request("protonet_sums", {**fixed, **trained}, {}, expect, phases[1])
        sums = total(reply.arrays for reply in study.hospitals.ask(request))
        model = self._model(study, trained, sums)
        return Outcome({"": model}, {"moments": Share(), **dict.fromkeys(phases, Share())}, 0.0, model.facts)

    def _model(self, study: Study, trained: Mapping[str, Array], sums: Mapping[str, Array]) -> Network:
        centres = sums["sums"] / np.maximum(sums["counts"], 1.0)[:, None]
        facts = {"rounds": self.rounds, "episodes": EPISODES, "rate": RATE}
        return network_of(study, {**trained, **nearest(centres)}, facts)


METHODS: tuple[type[Method], ...] = (ProtoNet,)
TASKS: Mapping[str, Task] = {"fit_protonet": fit_protonet, "protonet_sums": protonet_sums}
