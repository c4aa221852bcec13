"""Ensembles of the hospitals' own heads: mean of probabilities, equal or weighed on the server's own labelled cases."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from medtl_core.federation.method import Method, Outcome, Study
from medtl_core.methods.cross_fitting import combine, cross_fitted
from medtl_core.methods.local import Local
from medtl_core.values import Scores


@dataclass(frozen=True)
class Ensemble(Method):
    """Mean probability of the hospitals' own heads (local: equal weights).

    Attributes:
        members: "local": weighted equally; "weighted": on the server's cases, the clearly worse ones dropped.
    """

    syntax = "ensemble-(?P<members>local|weighted)"
    example = "ensemble-weighted"
    test = "server"

    members: str

    def outcome(self, study: Study) -> Outcome:
        """See Method."""
        local = study.outcome(Local("local"))

        def weigh(members: Mapping[str, Scores]) -> tuple[Scores, Mapping[str, Any]]:
            if self.members == "local":
                return combine(list(members.values())), {"weights": "equal", "members": list(members)}
            scores, facts = cross_fitted(members, seed=study.settings.seed)
            return scores, {**facts, "members": list(members)}

        return Outcome({}, dict(local.bill), members=dict(local.heads), combine=weigh)


METHODS = (Ensemble,)
