"""The hospital's half of a personal method: what is trained there, what may leave, and what stays on its own disk.

A method gives pure functions of a `LocalRound`. The tasks made here read what stayed from the hospital's own folder
before such a function runs, and write it back after.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from medtl_core.errors import ConfigError, StateError
from medtl_core.federation.model import Packed
from medtl_core.federation.rounds import as_float32
from medtl_core.federation.tasks import Arrays, Config, SiteData, Task, judged
from medtl_core.heads.statistics import Float
from medtl_core.methods.models.network import Network
from medtl_core.methods.personal.state import KeptState, PersonalState, StateKey
from medtl_core.rng import stream
from medtl_core.values import ABSENT, Array, Head, Released, Update


@dataclass(frozen=True)
class LocalRound:
    """A message of the server, arrays and flat values, and what the hospital has to answer it with.

    Attributes:
        kept: personal arrays from the round before.
        late: whether the hospital begins its personal part although the rounds have begun before.
    """

    site: SiteData
    sent: Arrays
    config: Config
    kept: Arrays = field(default_factory=dict)
    late: bool = False

    @property
    def number(self) -> int:
        """Of the round; after the last one, of the round that would follow."""
        return int(self.config["round"])

    @property
    def key(self) -> StateKey:
        """Whose state this is, as the server names it."""
        return StateKey.of(self.config)

    @property
    def seen(self) -> NDArray[np.bool_]:
        """Classes that any hospital has shown, bool [C]."""
        return np.asarray(self.sent["seen"] > 0)

    @property
    def moments(self) -> tuple[Float, Float]:
        """Pooled mean and scale of the features, float64 [d] each."""
        return self.sent["mean"].astype(np.float64), self.sent["scale"].astype(np.float64)

    def order(self, *words: int) -> np.random.Generator:
        """Returns the generator of the batch order, so that a repeated request repeats it."""
        return stream(self.site.seed, self.key.method, self.site.name, self.number, *words)

    def head(self, raw: Float) -> Head:
        """Returns a head [C, d + 1] on raw features as the hospital's model; a class never shown is no answer."""
        weight, bias = np.where(self.seen[:, None], raw[:, :-1], 0.0), np.where(self.seen, raw[:, -1], ABSENT)
        return Head(weight, bias, self.key.method, self.key.classes, self.key.fingerprint)


#: What a round of training gave: arrays that leave the hospital, arrays that stay there, and losses to tell.
RoundResult = tuple[Arrays, Arrays, Mapping[str, float]]
#: What a hospital begins with that has kept nothing.
Begin = Callable[[LocalRound], Mapping[str, Array]]
#: The hospital's own model, and numbers about how it was chosen that may be told.
OwnModel = tuple[Head | Network, Mapping[str, float]]


def personal_tasks(
    word: str,
    finish: Callable[[LocalRound], OwnModel],
    train: Callable[[LocalRound], RoundResult] | None = None,
    begin: Begin = lambda here: {},
    *,
    joins_late: bool = True,
) -> dict[str, Task]:
    """Returns the hospital's tasks of a personal method: `WORD_finish` and, for a method with rounds, `WORD_round`.

    Args:
        word: first part of the tasks' names.
        finish: gives the hospital's own model from the last shared arrays and what it kept.
        train: gives what a round of training gave.
        begin: gives the personal arrays of a hospital that has none; a late one begins like this too.
        joins_late: whether a hospital that took part in no round can finish a model.
    """

    def finish_task(site: SiteData, arrays: Arrays, config: Config) -> Released:
        here, state = _opened(LocalRound(site, arrays, config), begin)
        if here.late and not joins_late:
            raise StateError(
                f"hospital {site.name!r} took part in no round of {here.key.method} that its state folder knows of, so "
                "it has no personal part to finish; it sits out"
            )
        model, metrics = finish(here)
        kind = "affine" if isinstance(model, Head) else "network"
        own = {"weight": model.weight, "bias": model.bias} if isinstance(model, Head) else model.pack().arrays
        state.finish(KeptState(here.number, own, {"kind": kind}))
        return Released(Update({}), metrics={**metrics, "began-late": float(here.late)})

    def train_task(site: SiteData, arrays: Arrays, config: Config) -> Released:
        here, state = _opened(LocalRound(site, arrays, config), begin)
        assert train is not None
        shared, kept, metrics = train(here)
        state.write(here.number, kept)
        return Released(Update(as_float32(shared)), metrics={**metrics, "began-late": float(here.late)})

    return {f"{word}_finish": finish_task, **({f"{word}_round": train_task} if train else {})}


def evaluate_personal(site: SiteData, arrays: Arrays, config: Config) -> Released:
    """Summable evaluation of a hospital's finished personal model on its own held-out cases; see `federated`.

    Raises:
        StateError: the hospital has no finished model of this method, or one that cannot be read.
    """
    key = StateKey.of(config)
    kept = _state(site, key).finished()
    if kept.facts.get("kind") == "network":
        model: Head | Network = Network.unpack(Packed(kept.arrays, {}, key.classes, key.fingerprint))
    elif kept.facts.get("kind") == "affine" and set(kept.arrays) == {"weight", "bias"}:
        model = Head(kept.arrays["weight"], kept.arrays["bias"], "personal", key.classes, key.fingerprint)
    else:
        raise StateError(f"the finished model of {key.method} is of no kind that this version of medtl can read")
    sums = judged(site, model.logits(site.test_values)).arrays
    return Released(Update({name: array[None] for name, array in sums.items()}))


def _opened(here: LocalRound, begin: Begin) -> tuple[LocalRound, PersonalState]:
    state = _state(here.site, here.key)
    before = state.before(here.number)
    here = replace(here, late=before is None and here.number > 1)
    return replace(here, kept=begin(here) if before is None else before.arrays), state


def _state(site: SiteData, key: StateKey) -> PersonalState:
    if site.state is None:
        raise ConfigError(
            f"{key.method} keeps a personal part at the hospital, but {site.name!r} has no folder for it: start it "
            "with medtl site run, or set state=FOLDER in a simulation"
        )
    return PersonalState(site.state, key)


#: The judgement at the hospital, whatever the method.
TASKS = {"evaluate_personal": evaluate_personal}
