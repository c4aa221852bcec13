"""What personal methods share: the tasks that keep a hospital's part on its own disk, and the judgement there.

A personal method has two halves. At the hospital a `Resident` says, as pure functions, what is trained, what of it may
leave and what stays; the tasks made here read what stayed from disk and write it back. At the server a `Personal`
method averages what left. After the last round every hospital finishes a model of its own, keeps it, and judges it on
its own held-out cases: those sums are all that the server sees of it.
"""

import json
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from medtl_core.errors import ConfigError, StateError
from medtl_core.federation.hospitals import Request, Value
from medtl_core.federation.method import Method
from medtl_core.federation.model import Packed
from medtl_core.federation.outcome import Outcome, Share
from medtl_core.federation.rounds import Exchange, run_rounds
from medtl_core.federation.study import Study
from medtl_core.federation.tasks import Arrays, Config, SiteData, Task, judged
from medtl_core.fingerprint import agreement
from medtl_core.methods.network import Network, recipe_config
from medtl_core.methods.personal.client import Resident, Trainee, Visit, identity_of
from medtl_core.methods.personal.state import Identity, Kept, PersonalState
from medtl_core.values import Array, Head, Released, Update

#: Metrics that are told elsewhere or to nobody's use.
_ASIDE = ("cpu-seconds", "began-late")

#: Names of a method with rounds, after its word.
ROUNDS = r"-(?P<rounds>[1-9][0-9]{0,3})(?P<adjusted>-adjusted)?"


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
    """Summable evaluation of a hospital's finished personal model on its own held-out cases; see `federated`."""
    identity = identity_of(config)
    logits = _model(_state(site, identity).finished(), identity).logits(site.test_values)
    return Released(Update({name: array[None] for name, array in judged(site, logits).arrays.items()}))


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
        config: flat values sent along in every message.
    """

    start: Mapping[str, Array]
    config: Mapping[str, Value] = field(default_factory=dict)


@dataclass(frozen=True)
class Ending:
    """What lets every hospital finish its own model.

    Attributes:
        task: of the hospital.
        arrays: the shared part, by name.
        config: flat values sent along.
        bill: what the method needed before.
        facts: what the server knows of it.
    """

    task: str
    arrays: Mapping[str, Array] = field(default_factory=dict)
    config: Mapping[str, Value] = field(default_factory=dict)
    bill: Mapping[str, Share] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)


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
        exchange = Exchange(f"{self.word}_round", phase, self.rounds, config, study.moments.standardisation)
        course = run_rounds(study.hospitals, exchange, opening.start)
        late = {site for said in course.metrics.values() for site, told in said.items() if told.get("began-late")}
        ending = Ending(
            f"{self.word}_finish",
            {**exchange.fixed, **course.last},
            {**config, "adjusted": self.adjusted, "round": self.rounds + 1},
            {phase: Share()},
            {"rounds": self.rounds, "adjusted": self.adjusted, "began_late": sorted(late)},
        )
        return settle(study, self, ending)


def settle(study: Study, method: Method, ending: Ending) -> Outcome:
    """Lets every hospital finish its own model; returns the outcome that says under which name it is kept."""
    phase = f"finish-{method.name}"
    arrays = {**ending.arrays, "seen": (study.moments.counts > 0).astype(np.int64)}
    config = {"round": 1, **identity_config(study, method.name), **ending.config}
    told = {reply.site: reply.metrics for reply in study.hospitals.ask(Request(ending.task, arrays, config, {}, phase))}
    late = {*ending.facts.get("began_late", ()), *(site for site, said in told.items() if said.get("began-late"))}
    chosen = {site: {k: v for k, v in said.items() if k not in _ASIDE} for site, said in told.items()}
    facts = {**ending.facts, "hospitals": chosen, "began_late": sorted(late)}
    bill = {"moments": Share(), **ending.bill, phase: Share()}
    judge = Request("evaluate_personal", {}, identity_config(study, method.name))
    return Outcome({}, bill, 0.0, facts, personal=judge)


def _opened(
    resident: Resident, site: SiteData, arrays: Arrays, config: Config
) -> tuple[Visit, PersonalState, Mapping[str, Array]]:
    identity, number = identity_of(config), int(config["round"])
    state = _state(site, identity)
    found = state.before(number)
    visit = Visit(site, arrays, config, number, late=found is None and number > 1)
    return visit, state, resident.begin(visit) if found is None else found.arrays


def _state(site: SiteData, identity: Identity) -> PersonalState:
    if site.state is None:
        raise ConfigError(
            f"{identity.method} keeps a personal part at the hospital, but {site.name!r} has no folder for it: start "
            "its SuperNode with state-dir in the node config, or set state=FOLDER in a simulation"
        )
    return PersonalState(site.state, identity)


def _kept(number: int, model: Head | Network) -> Kept:
    if isinstance(model, Head):
        return Kept(number, {"weight": model.weight, "bias": model.bias}, {"kind": "affine"})
    return Kept(number, model.pack().arrays, {"kind": "network"})


def _model(kept: Kept, identity: Identity) -> Head | Network:
    if kept.facts.get("kind") == "network":
        return Network.unpack(Packed(kept.arrays, {}, identity.classes, identity.fingerprint))
    if kept.facts.get("kind") != "affine" or set(kept.arrays) != {"weight", "bias"}:
        raise StateError(f"the finished model of {identity.method} is of no kind that this version of medtl can read")
    return Head(kept.arrays["weight"], kept.arrays["bias"], "personal", identity.classes, identity.fingerprint)


#: The judgement at the hospital, whatever the method.
TASKS: Mapping[str, Task] = {"evaluate_personal": evaluate_personal}
