"""What personal methods share: the tasks that keep a hospital's part on its own disk, and the judgement there.

A personal method has two halves. At the hospital a `Resident` says, as pure functions, what is trained, what of it may
leave and what stays; the tasks made here read what stayed from disk and write it back. At the server a `Personal`
method averages what left. After the last round every hospital finishes a model of its own, keeps it, and judges it on
its own held-out cases: those sums are all that the server sees of it.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from medtl_core.agreement import agreement
from medtl_core.calibrate import log_prior
from medtl_core.errors import ConfigError, StateError
from medtl_core.histogram import summarise
from medtl_core.methods.hospitals import Request, Value
from medtl_core.methods.method import Method
from medtl_core.methods.model import Packed
from medtl_core.methods.outcome import Outcome, Share
from medtl_core.methods.rounds import Exchange, run_rounds
from medtl_core.methods.study import Study
from medtl_core.methods.tasks import Arrays, Config, SiteData, Task
from medtl_core.personal_state import Identity, Kept, PersonalState
from medtl_core.transfer.network import Network, recipe_config
from medtl_core.values import ABSENT, Array, Head, Released, Scores, Update

#: Smallest class share that `adjusted` removes, so that a class of a handful of cases is not raised without limit.
FLOOR = 1e-2

#: Metrics that are told elsewhere or to nobody's use.
_ASIDE = ("cpu-seconds", "began-late")

#: Names of a method with rounds, after its word.
ROUNDS = r"-(?P<rounds>[1-9][0-9]{0,3})(?P<adjusted>-adjusted)?"


@dataclass(frozen=True)
class Visit:
    """One message of the server to a resident.

    Attributes:
        site: the hospital's cases.
        arrays: what the server sent.
        config: flat values it sent.
        round: number of the round; after the last one, the number of the round that would follow.
        late: whether the hospital begins its personal part although the rounds have begun before.
    """

    site: SiteData
    arrays: Arrays
    config: Config
    round: int
    late: bool = False

    @property
    def counts(self) -> NDArray[np.float64]:
        """Training cases of each class at this hospital, [C]."""
        return np.bincount(self.site.label, minlength=self.site.classes).astype(np.float64)

    @property
    def seen(self) -> NDArray[np.bool_]:
        """Classes that any hospital has shown, bool [C]."""
        return np.asarray(self.arrays["seen"] > 0)

    @property
    def identity(self) -> Identity:
        """Whose state this is, as the server names it."""
        return _identity(self.config)


@dataclass(frozen=True)
class Step:
    """What a round of training at a hospital gave.

    Attributes:
        shared: leaves the hospital; float32.
        kept: stays on its disk.
        metrics: losses that ride along.
    """

    shared: Mapping[str, Array]
    kept: Mapping[str, Array]
    metrics: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Finished:
    """A hospital's own model, and numbers about how it was chosen that may be told."""

    model: Head | Network
    metrics: Mapping[str, float] = field(default_factory=dict)


class Resident(ABC):
    """The hospital's half of a personal method: pure functions, state in and state out."""

    #: Whether a model can be finished by a hospital that took part in no round.
    lateness: ClassVar[bool] = True

    def begin(self, visit: Visit) -> Mapping[str, Array]:
        """Returns the personal arrays of a hospital that has none; a late one begins like this too."""
        return {}

    @abstractmethod
    def finish(self, visit: Visit, kept: Arrays) -> Finished:
        """Returns the hospital's own model from the last shared arrays and what it kept."""


class Trainee(Resident, ABC):
    """A resident of a method with rounds."""

    @abstractmethod
    def train(self, visit: Visit, kept: Arrays) -> Step:
        """Returns what a round of training gave."""


def tasks_of(word: str, resident: Resident) -> dict[str, Task]:
    """Returns a resident's hospital tasks: `WORD_finish` and, for a `Trainee`, `WORD_round`."""

    def finish(site: SiteData, arrays: Arrays, config: Config) -> Released:
        visit, state, kept = _opened(resident, site, arrays, config)
        if visit.late and not resident.lateness:
            raise StateError(
                f"hospital {site.name!r} took part in no round of {visit.identity.method} that its state folder knows "
                "of, so it has no personal part to finish; it sits out"
            )
        done = resident.finish(visit, kept)
        state.finish(_kept(visit.round, done.model))
        return Released(Update({}), metrics={**done.metrics, "began-late": float(visit.late)})

    rounds = {f"{word}_round": _round_of(resident)} if isinstance(resident, Trainee) else {}
    return {**rounds, f"{word}_finish": finish}


def _round_of(resident: Trainee) -> Task:
    def train(site: SiteData, arrays: Arrays, config: Config) -> Released:
        visit, state, kept = _opened(resident, site, arrays, config)
        step = resident.train(visit, kept)
        state.write(visit.round, step.kept)
        shared = {name: np.asarray(array, np.float32) for name, array in step.shared.items()}
        return Released(Update(shared), metrics={**step.metrics, "began-late": float(visit.late)})

    return train


def evaluate_personal(site: SiteData, arrays: Arrays, config: Config) -> Released:
    """Summable evaluation of a hospital's finished personal model on its own held-out cases; see `histogram`."""
    identity = _identity(config)
    logits = _model(_state(site, identity).finished(), identity).logits(site.test_values)
    group = np.unique(site.test_patients, return_inverse=True)[1].astype(np.int64)
    found = summarise(Scores(logits, site.test_label, np.full(len(site.test_label), site.name), group)).arrays
    return Released(Update({name: array[None] for name, array in found.items()}))


def identity_config(study: Study, method: str) -> dict[str, Value]:
    """Returns what tells a hospital whose state a message is about, as flat values."""
    problem = study.problem
    return {
        "method": method,
        "classes": json.dumps(problem.classes),
        "fingerprint": problem.fingerprint,
        "agreement": agreement(study.settings, problem.classes, problem.fingerprint),
    }


@dataclass(frozen=True)
class Opening:
    """What a personal method's rounds begin with.

    Attributes:
        start: arrays that are averaged, by name.
        fixed: arrays sent along in every message.
        config: flat values sent along in every message.
    """

    start: Mapping[str, Array] = field(default_factory=dict)
    fixed: Mapping[str, Array] = field(default_factory=dict)
    config: Mapping[str, Value] = field(default_factory=dict)


@dataclass(frozen=True)
class Personal(Method):
    """The server's half of a method with rounds: average what the hospitals send, then let each finish its own model.

    Attributes:
        rounds: of training.
        adjusted: whether each hospital removes the class prior of its own training cases from its finished model.
    """

    test: ClassVar[str] = "sites"
    #: First part of the method's name and of its tasks' names.
    word: ClassVar[str]

    rounds: int
    adjusted: bool

    @abstractmethod
    def opening(self, study: Study) -> Opening:
        """Returns what the rounds begin with."""

    def outcome(self, study: Study) -> Outcome:
        """See Method."""
        opening = self.opening(study)
        config = {**identity_config(study, self.name), **recipe_config(study), **opening.config}
        phase = f"fit-{self.name}"
        exchange = Exchange(f"{self.word}_round", phase, self.rounds, config, {**standard(study), **opening.fixed})
        course = run_rounds(study.hospitals, exchange, opening.start)
        late = sorted({site for said in course.metrics.values() for site, told in said.items() if told["began-late"]})
        last = Opening(
            fixed={**exchange.fixed, **course.last},
            config={**config, "adjusted": self.adjusted, "round": self.rounds + 1},
        )
        facts = {"rounds": self.rounds, "adjusted": self.adjusted, "began_late": late}
        return settle(study, self, f"{self.word}_finish", last, {"moments": Share(), phase: Share()}, facts)


def settle(
    study: Study, method: Method, task: str, last: Opening, bill: Mapping[str, Share], facts: Mapping[str, Any]
) -> Outcome:
    """Lets every hospital finish its own model; returns the outcome that says where it is kept."""
    phase = f"finish-{method.name}"
    fixed = {**last.fixed, "seen": (study.moments.counts > 0).astype(np.int64)}
    config = {"round": 1, **identity_config(study, method.name), **last.config}
    replies = study.hospitals.ask(Request(task, fixed, config, {}, phase))
    told = {reply.site: dict(reply.metrics) for reply in replies}
    late = sorted({*facts.get("began_late", ()), *(site for site, said in told.items() if said["began-late"])})
    chosen = {site: {k: v for k, v in said.items() if k not in _ASIDE} for site, said in told.items()}
    known = {**facts, "hospitals": chosen, "began_late": late}
    return Outcome({}, {**bill, "moments": Share(), phase: Share()}, 0.0, known, personal=method.name)


def standard(study: Study) -> dict[str, Array]:
    """Returns the pooled standardisation as it travels: `mean` and `scale` [d], float32."""
    moments = study.moments
    return {"mean": moments.mean.astype(np.float32), "scale": moments.scale.astype(np.float32)}


def _opened(
    resident: Resident, site: SiteData, arrays: Arrays, config: Config
) -> tuple[Visit, PersonalState, Mapping[str, Array]]:
    identity, number = _identity(config), int(config["round"])
    state = _state(site, identity)
    found = state.before(number)
    visit = Visit(site, arrays, config, number, late=found is None and number > 1)
    return visit, state, resident.begin(visit) if found is None else found.arrays


def _identity(config: Config) -> Identity:
    try:
        classes = tuple(json.loads(str(config["classes"])))
        return Identity(str(config["method"]), classes, str(config["fingerprint"]), str(config["agreement"]))
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError("the message does not say whose personal state it is about") from error


def _state(site: SiteData, identity: Identity) -> PersonalState:
    if site.state is None:
        raise ConfigError(
            f"{identity.method} keeps a personal part at the hospital, but {site.name!r} has no folder for it: start "
            "its SuperNode with state-dir in the node config, or set state=FOLDER in a simulation"
        )
    return PersonalState(site.state, identity)


def _kept(number: int, model: Head | Network) -> Kept:
    if isinstance(model, Head):
        return Kept(number, {"weight": model.weight, "bias": model.bias}, {"kind": "affine", "made": model.kind})
    return Kept(number, model.pack().arrays, {"kind": "network"})


def _model(kept: Kept, identity: Identity) -> Head | Network:
    if kept.facts.get("kind") == "network":
        return Network.unpack(Packed(kept.arrays, {}, identity.classes, identity.fingerprint))
    weight, bias = kept.arrays["weight"], kept.arrays["bias"]
    return Head(weight, bias, "personal", identity.classes, identity.fingerprint)


def affine_head(visit: Visit, raw: NDArray[np.float64]) -> Head:
    """Returns a head [C, d + 1] on raw features as this hospital's model; a class never shown anywhere is no answer."""
    identity = visit.identity
    weight = np.where(visit.seen[:, None], raw[:, :-1], 0.0)
    bias = np.where(visit.seen, raw[:, -1], ABSENT)
    return Head(weight, bias, identity.method, identity.classes, identity.fingerprint)


def adjusted(visit: Visit, raw: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns a head [C, d + 1] without the class prior of this hospital's training cases, if that was asked for."""
    moved = raw.copy()
    if visit.config.get("adjusted"):
        moved[:, -1] -= log_prior(visit.counts, floor=FLOOR)
    return moved


#: The judgement at the hospital, whatever the method.
TASKS: Mapping[str, Task] = {"evaluate_personal": evaluate_personal}
