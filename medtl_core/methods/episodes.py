"""Episodes: small classification tasks that a hospital draws from its own cached features, always by patient."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from medtl_core.errors import DataError, positive
from medtl_core.federation.tasks import Arrays, Config, SiteData, Task
from medtl_core.heads.linear import Training
from medtl_core.methods.local_sgd import Cost, Pass, local_sgd
from medtl_core.methods.models.network import standardised
from medtl_core.values import Array

if TYPE_CHECKING:
    from torch import Tensor

#: Standardised features [n, d] of one side of an episode, and each case's position in the episode's classes.
Side = tuple["Tensor", "Tensor"]
#: Arrays, support, query and classes [N] of an episode -> what a step minimises.
EpisodeLoss = Callable[[Mapping[str, "Tensor"], Side, Side, "Tensor"], "Tensor"]

Index = NDArray[np.int64]

#: A case without a side yet, on the support side, on the query side.
_FREE, _SUPPORT, _QUERY = 0, 1, 2


@dataclass(frozen=True)
class Shape:
    """What an episode should hold. A hospital with less gives what it has, but never fewer than two classes.

    Attributes:
        ways: classes, at most; at least 2.
        shots: support cases a class, at most; a class never gives more than half of its patients.
        queries: query cases a class, at most.
    """

    ways: int = 5
    shots: int = 5
    queries: int = 10

    def __post_init__(self) -> None:
        positive(ways=self.ways - 1, shots=self.shots, queries=self.queries)


@dataclass(frozen=True)
class Episode:
    """One task: classes [N] that take part, ascending, rows to learn from, rows of other patients to be judged on."""

    classes: Index
    support: Index
    query: Index


def sample(label: Index, patients: Array, shape: Shape, *, rng: np.random.Generator) -> Episode:
    """Draws an N-way K-shot task (Vinyals et al., NeurIPS 2016, section 4) whose two sides share no patient.

    Args:
        label: int [n].
        patients: str [n], whose case each is.
        shape: what the episode should hold.
        rng: of the draw.

    Raises:
        DataError: fewer than two classes have cases of two patients.
    """
    _, code = np.unique(patients, return_inverse=True)
    owners = {int(name): np.unique(code[label == name]) for name in np.unique(label)}
    able = [name for name, found in owners.items() if len(found) > 1]
    chosen = sorted(rng.permutation(able)[: shape.ways].tolist(), key=lambda name: (len(owners[name]), name))
    side = np.zeros(int(code.max(initial=-1)) + 1, dtype=np.int64)
    for name in chosen:  # the rarest first: it has the least choice
        _take_sides(side, owners[name], shape.shots, rng)
    rows = {name: _rows(label == name, code, side, shape, rng) for name in chosen}
    whole = sorted(name for name, (support, query) in rows.items() if len(support) and len(query))
    if len(whole) < 2:
        raise DataError(
            f"no episode: {len(able)} of {len(owners)} classes have cases of two patients or more, and {len(whole)} "
            "could fill both sides; a task needs two classes. This hospital sits out: give it more labelled patients"
        )
    support, query = (np.concatenate([rows[name][part] for name in whole]) for part in (0, 1))
    return Episode(np.asarray(whole, dtype=np.int64), support, query)


def episodic_sgd(
    word: str, names: Sequence[str], loss_of: Callable[[Config], EpisodeLoss], *, count: str, rate: str
) -> Task:
    """Returns a hospital's task: a round of episodes over its cases, one step of gradient descent for each.

    A hospital of which no episode can be drawn sits out; see `sample`.

    Args:
        word: see `local_sgd`.
        names: see `local_sgd`.
        loss_of: gives the loss of an episode, from a message's flat values.
        count: under which name the message has the number of episodes.
        rate: under which name it has the step size.
    """

    def passes(site: SiteData, arrays: Arrays, config: Config, rng: np.random.Generator) -> Iterator[Pass]:
        import torch

        loss, inputs = loss_of(config), torch.from_numpy(standardised(site.values, arrays))
        shape = Shape(**{key: int(config[key]) for key in ("ways", "shots", "queries") if key in config})
        for _ in range(int(config[count])):
            task = sample(site.label, site.patients, shape, rng=rng)
            support, query = (
                (inputs[torch.from_numpy(rows)], torch.from_numpy(np.searchsorted(task.classes, site.label[rows])))
                for rows in (task.support, task.query)
            )
            classes = torch.from_numpy(task.classes)
            yield [(_cost(loss, support, query, classes), 1)]

    def training(config: Config) -> Training:
        return Training(learning_rate=float(config[rate]), weight_decay=0.0)

    return local_sgd(word, names, passes, training)


def _cost(loss: EpisodeLoss, support: Side, query: Side, classes: "Tensor") -> Cost:
    return lambda current: loss(current, support, query, classes)


def draw_shots(label: Index, patients: Array, shots: int, *, rng: np.random.Generator) -> Index:
    """Returns at most `shots` rows of each class, int64 [m], ascending; a second case of a patient comes last.

    The rows of a smaller number of shots are among those of a larger one under the same generator state.
    """
    positive(shots=shots)
    order = rng.permutation(len(label))
    drawn = []
    for name in np.unique(label):
        mine, seen = order[label[order] == name], Counter[str]()
        turns = []  # which case of its patient each is
        for patient in patients[mine].tolist():
            seen[patient] += 1
            turns.append(seen[patient])
        drawn.append(mine[np.argsort(turns, kind="stable")][:shots])
    return np.sort(np.concatenate([np.zeros(0, np.int64), *drawn]))


def _take_sides(side: Index, patients: Index, shots: int, rng: np.random.Generator) -> None:
    """Gives the undecided patients of a class their sides: support until it has its share, then query."""
    order = rng.permutation(patients)
    wanted = min(shots, len(order) // 2)
    missing = max(wanted - int((side[order] == _SUPPORT).sum()), 0)
    free = order[side[order] == _FREE]
    if len(free) and not (side[order] == _QUERY).any():
        missing = min(missing, len(free) - 1)  # somebody must be left to be judged on
    side[free[:missing]], side[free[missing:]] = _SUPPORT, _QUERY


def _rows(
    mine: NDArray[np.bool_], code: Index, side: Index, shape: Shape, rng: np.random.Generator
) -> tuple[Index, Index]:
    rows = rng.permutation(np.flatnonzero(mine))
    support, query = (rows[side[code[rows]] == part] for part in (_SUPPORT, _QUERY))
    return support[: shape.shots], query[: shape.queries]
