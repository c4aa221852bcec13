"""The default: cross-validation chooses the head."""

from dataclasses import dataclass
from typing import Any, ClassVar, final

from medtl_core.federation.method import Candidates, Method, Need
from medtl_core.federation.outcome import Outcome, Share
from medtl_core.federation.study import Study
from medtl_core.heads.crossval import choose
from medtl_core.methods.gradient import RIVAL

_CLOSED = (Candidates("ridge"), Candidates("discriminant"))


@final
@dataclass(frozen=True)
class Auto(Method):
    """The head with the lowest cross-validated, class-balanced log-loss among ridge, discriminant and `RIVAL`."""

    syntax: ClassVar[str] = "auto"
    example: ClassVar[str] = "auto"
    summary: ClassVar[str] = "the default: cross-validation chooses among ridge, discriminant and adjusted FedAvg"

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
            affine, kind = stack[0] * rival.temperature, RIVAL.algorithm
            facts |= {"rounds": RIVAL.rounds, "adjusted": RIVAL.adjusted}
        else:
            affine, kind = solved[best].affine, best
            facts = {**solved[best].facts, **facts}
        bill = {**study.closed_bill(_CLOSED), **RIVAL.bill(study), "validate-rival": Share()}
        spent = sum(head.server_cpu for head in solved.values())
        return Outcome({"": study.head(affine, kind, facts)}, bill, spent, facts)


METHODS: tuple[type[Method], ...] = (Auto,)
