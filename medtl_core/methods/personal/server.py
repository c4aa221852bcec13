"""The server's half of a personal method: average what hospitals send, then let each finish a model of its own.

The finished models stay. Every hospital keeps its own and judges it on its own held-out cases; those sums are all that
the server sees of it.
"""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from medtl_core.federation.hospitals import Request, Value
from medtl_core.federation.method import Method, Outcome, Share, Study
from medtl_core.federation.rounds import RECIPE, Exchange, as_float32, recipe_config, run_rounds
from medtl_core.fingerprint import agreement
from medtl_core.methods.personal.state import StateKey
from medtl_core.values import Array

#: Metrics that are told elsewhere or to nobody's use.
_ASIDE = ("cpu-seconds", "began-late")


def identity_config(study: Study, method: str) -> dict[str, str]:
    """Returns what tells a hospital whose state a message is about, as flat values."""
    classes, fingerprint = study.problem.classes, study.problem.fingerprint
    return StateKey(method, classes, fingerprint, agreement(study.settings, classes, fingerprint)).config()


@dataclass(frozen=True)
class Finish:
    """What lets every hospital finish its own model: its task, and the arrays and flat values it is sent.

    Attributes:
        bill: what the method needed before.
        facts: what the server knows of the training.
    """

    task: str
    arrays: Mapping[str, Array] = field(default_factory=dict)
    config: Mapping[str, Value] = field(default_factory=dict)
    bill: Mapping[str, Share] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)


def finished(study: Study, method: Method, finish: Finish) -> Outcome:
    """Lets every hospital finish its own model; returns the outcome that says under which name it is kept."""
    phase = f"finish-{method.name}"
    arrays = {**finish.arrays, "seen": (study.moments.counts > 0).astype(np.int64)}
    config = {"round": 1, **identity_config(study, method.name), **finish.config}
    replies = study.hospitals.ask(Request(finish.task, arrays, config, {}, phase))
    metrics = {reply.site: reply.metrics for reply in replies}
    late = {*finish.facts.get("began_late", ()), *(site for site, own in metrics.items() if own.get("began-late"))}
    chosen = {site: {key: own[key] for key in own if key not in _ASIDE} for site, own in metrics.items()}
    facts = {**finish.facts, "hospitals": chosen, "began_late": sorted(late)}
    judge = Request("evaluate_personal", {}, identity_config(study, method.name))
    return Outcome({}, {"moments": Share(), **finish.bill, phase: Share()}, 0.0, facts, personal=judge)


@dataclass(frozen=True)
class Personal(Method):
    """A personal method with so many rounds of training."""

    test = "sites"
    reads = RECIPE

    rounds: int

    @abstractmethod
    def start(self, study: Study) -> Mapping[str, Array]:
        """Returns the arrays that are averaged, before training."""

    def config(self, study: Study) -> Mapping[str, Value]:
        """Returns flat values for every message beside the local training of the settings."""
        return {}

    def outcome(self, study: Study) -> Outcome:
        """See Method."""
        config = {**identity_config(study, self.name), **recipe_config(study.settings), **self.config(study)}
        word, phase = self.name.partition("-")[0], f"fit-{self.name}"
        exchange = Exchange(f"{word}_round", phase, self.rounds, config, study.moments.standardisation)
        course = run_rounds(study.hospitals, exchange, self.start(study))
        facts = {"rounds": self.rounds, "began_late": sorted(course.flagged.get("began-late", ()))}
        last = {**config, "round": self.rounds + 1}
        arrays = {**exchange.fixed, **as_float32(course.exact[self.rounds])}
        return finished(study, self, Finish(f"{word}_finish", arrays, last, {phase: Share()}, facts))
