"""Per-FedAvg: a network meta-trained so that one step on a hospital's own cases makes it that hospital's own.

A hospital is a task (Fallah et al., NeurIPS 2020): two batches of its cases stand for the two sides of an episode.
"""

from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np

from medtl_core.methods.hospitals import ArraySpec, Request
from medtl_core.methods.method import Method
from medtl_core.methods.outcome import Outcome, Share
from medtl_core.methods.study import Study
from medtl_core.transfer.maml import Inner, MetaPlan, fixed_of
from medtl_core.transfer.network import NAMES, network_of


@final
@dataclass(frozen=True)
class PerFedAvg(Method):
    """Meta-training in which every hospital is a task: the shared network, or each hospital's after its own step.

    Attributes:
        rounds: of meta-training.
        personal: whether each hospital takes its own step before it is judged.
    """

    syntax: ClassVar[str] = r"perfedavg-(?P<rounds>[1-9][0-9]{0,3})(?P<personal>-personal)?"
    example: ClassVar[str] = "perfedavg-2"
    summary: ClassVar[str] = "a network meta-trained to fit a hospital after one step of its own (-personal: after it)"

    rounds: int
    personal: bool

    def outcome(self, study: Study) -> Outcome:
        """See Method."""
        plan = MetaPlan(f"perfedavg-{self.rounds}", self.rounds, Inner(1), whole=True)
        arrays = study.once(plan.phase, lambda: plan.trained(study))
        bill = dict.fromkeys(("moments", plan.phase), Share())
        if not self.personal:
            return Outcome({"": network_of(study, arrays, plan.facts())}, bill, 0.0, plan.facts())
        phase, fixed = f"step-{self.name}", fixed_of(study)
        expect = {name: ArraySpec(arrays[name].shape, "float32") for name in NAMES}
        plain = {**fixed, "weight": np.ones_like(fixed["weight"])}  # the step it was trained for
        request = Request("gradient_step", {**plain, **arrays}, plan.inner.config(), expect, phase)
        heads = {
            reply.site: network_of(study, reply.arrays, {**plan.facts(), "site": reply.site})
            for reply in study.hospitals.ask(request)
        }
        return Outcome(heads, {**bill, phase: Share()}, 0.0, plan.facts())


METHODS: tuple[type[Method], ...] = (PerFedAvg,)
