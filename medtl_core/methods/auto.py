"""The default: cross-validation chooses the head."""

from typing import Any

from medtl_core.federation.method import Candidates, Method, Need, Outcome, Share, Study
from medtl_core.heads.crossval import choose
from medtl_core.methods.fedavg import RIVAL

_CLOSED = (Candidates("ridge"), Candidates("discriminant"))


class Auto(Method):
    """The default: cross-validation chooses among ridge, discriminant and adjusted FedAvg."""

    syntax = "auto"

    def needs(self, study: Study) -> tuple[Need, ...]:
        """See Method."""
        return (*_CLOSED, *RIVAL.needs(study))

    def outcome(self, study: Study) -> Outcome:
        """See Method."""
        stack = RIVAL.heads(study)
        rival = choose(study.features.judged(stack[1:, None], "validate-rival"), study.statistics.counts)
        solved = {each.family: study.solved(each.family) for each in _CLOSED}
        losses = {name: head.choice.loss for name, head in solved.items()} | {RIVAL.name: rival.loss}
        best = min(losses, key=lambda name: losses[name])
        facts: dict[str, Any] = {"chosen": best, "losses": losses}
        if best == RIVAL.name:  # its temperature comes from cross-validation too
            affine, kind = stack[0] * rival.temperature, RIVAL.trained_as
            facts |= {"rounds": RIVAL.rounds, "adjusted": RIVAL.adjusted}
        else:
            affine, kind = solved[best].affine, best
            facts = {**solved[best].facts, **facts}
        bill = {**study.closed_bill(_CLOSED), **RIVAL.bill(study), "validate-rival": Share()}
        spent = sum(head.server_cpu for head in solved.values())
        return Outcome({"": study.head(affine, kind, facts)}, bill, spent, facts)


METHODS = (Auto,)
