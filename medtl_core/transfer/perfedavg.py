"""Per-FedAvg: a network meta-trained so that one step on a hospital's own cases makes it that hospital's own.

A hospital is a task (Fallah et al., NeurIPS 2020): two batches of its cases stand for the two sides of an episode.
`perfedavg-R` is judged before the hospital's own step, `perfedavg-R-personal` after it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np

from medtl_core.methods.method import Method
from medtl_core.methods.outcome import Outcome, Share
from medtl_core.methods.study import Study
from medtl_core.methods.tasks import Arrays, Task
from medtl_core.transfer.keep import Ending, settle, tasks_of
from medtl_core.transfer.maml import Inner, MetaPlan, fixed_of, gradient_step
from medtl_core.transfer.network import NAMES, Network, network_of
from medtl_core.transfer.resident import Finished, Resident, Visit
from medtl_core.values import Array


def meta_trained(study: Study, rounds: int) -> tuple[MetaPlan, Mapping[str, Array]]:
    """Returns the plan and the shared network after so many rounds; both methods share them."""
    plan = MetaPlan(f"perfedavg-{rounds}", rounds, Inner(1), whole=True)
    return plan, study.once(plan.phase, lambda: plan.trained(study))


@final
@dataclass(frozen=True)
class PerFedAvg(Method):
    """Meta-training in which every hospital is a task; the shared network, before any step.

    Attributes:
        rounds: of meta-training.
    """

    syntax: ClassVar[str] = r"perfedavg-(?P<rounds>[1-9][0-9]{0,3})"
    example: ClassVar[str] = "perfedavg-2"
    summary: ClassVar[str] = "a network meta-trained to fit a hospital after one step of its own, judged before it"

    rounds: int

    def outcome(self, study: Study) -> Outcome:
        """See Method."""
        plan, arrays = meta_trained(study, self.rounds)
        bill = dict.fromkeys(("moments", plan.phase), Share())
        return Outcome({"": network_of(study, arrays, plan.facts())}, bill, 0.0, plan.facts())


@final
class OneStep(Resident):
    """The hospital's own step: all of its cases, each counting alike, as in meta-training."""

    def finish(self, visit: Visit, kept: Arrays) -> Finished:
        """See Resident."""
        sent = {**visit.arrays, "weight": np.ones(visit.site.classes, np.float32)}
        moved = gradient_step(visit.site, sent, visit.config)
        arrays = {name: moved.update.arrays[name] for name in NAMES}
        fixed = {name: np.asarray(visit.arrays[name], np.float32) for name in ("mean", "scale")}
        identity = visit.identity
        return Finished(Network({**arrays, **fixed}, visit.seen, identity.classes, identity.fingerprint), moved.metrics)


@final
@dataclass(frozen=True)
class PersonalPerFedAvg(Method):
    """The same network after each hospital's own step, judged on the hospital's own held-out cases.

    Attributes:
        rounds: of meta-training.
    """

    syntax: ClassVar[str] = r"perfedavg-(?P<rounds>[1-9][0-9]{0,3})-personal"
    example: ClassVar[str] = "perfedavg-2-personal"
    summary: ClassVar[str] = "personal: that network after one step at each hospital, judged on its own held-out cases"
    test: ClassVar[str] = "sites"

    rounds: int

    def outcome(self, study: Study) -> Outcome:
        """See Method."""
        plan, arrays = meta_trained(study, self.rounds)
        sent = {name: array for name, array in fixed_of(study).items() if name != "weight"}
        config = {**plan.inner.config(), "round": self.rounds + 1}
        ending = Ending("onestep_finish", {**arrays, **sent}, config, {plan.phase: Share()}, plan.facts())
        return settle(study, self, ending)


METHODS: tuple[type[Method], ...] = (PerFedAvg, PersonalPerFedAvg)
TASKS: Mapping[str, Task] = tasks_of("onestep", OneStep())
