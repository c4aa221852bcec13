"""Ensembles of the heads that other methods gave, weighed on the server's own labelled cases."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, final

from medtl_core.evaluation.ensemble import combine, cross_fitted
from medtl_core.federation.method import Method
from medtl_core.federation.outcome import Outcome, Share
from medtl_core.federation.study import Study
from medtl_core.methods.closed import Local
from medtl_core.values import Scores


@final
@dataclass(frozen=True)
class Ensemble(Method):
    """A mean of the probabilities of heads that other methods gave.

    Attributes:
        members: "local": the hospitals' own heads, weighted equally; "weighted": the same, weighted on the server's
            cases; "all": these and the one head of every other method that is asked for, weighted likewise.
    """

    syntax: ClassVar[str] = "ensemble-(?P<members>local|weighted|all)"
    example: ClassVar[str] = "ensemble-weighted"
    summary: ClassVar[str] = "mean probability of the hospitals' own heads (all: and the federated ones)"
    test: ClassVar[str] = "server"

    members: str

    def outcome(self, study: Study) -> Outcome:
        """See Method."""
        local = study.outcome(Local("local"))
        heads, bill = dict(local.heads), dict(local.bill)
        if self.members == "all":
            for method in study.methods:
                if not isinstance(method, Ensemble):
                    other = study.outcome(method)
                    heads |= {method.name: other.heads[""]} if "" in other.heads else {}
                    bill |= dict.fromkeys(other.bill, Share())

        def weigh(members: Mapping[str, Scores]) -> tuple[Scores, Mapping[str, Any]]:
            if self.members == "local":
                return combine(list(members.values())), {"weights": "equal", "members": list(members)}
            scores, facts = cross_fitted(members, seed=study.settings.seed)
            return scores, {**facts, "members": list(members)}

        return Outcome({}, bill, members=heads, combine=weigh)


METHODS: tuple[type[Method], ...] = (Ensemble,)
