"""Heads solved from sums, without a round of training."""

from dataclasses import dataclass
from typing import ClassVar, final

from medtl_core.federation.method import Candidates, Method
from medtl_core.federation.outcome import Outcome
from medtl_core.federation.study import Study
from medtl_core.heads.closed_form import FAMILIES


@final
@dataclass(frozen=True)
class Closed(Method):
    """A head solved from sums: the name of one of `heads.closed_form.FAMILIES`."""

    syntax: ClassVar[str] = "|".join(FAMILIES)
    example: ClassVar[str] = "discriminant"
    summary: ClassVar[str] = "solved by the server from summed statistics; strength and temperature by cross-validation"

    def needs(self, study: Study) -> tuple[Candidates, ...]:
        """See Method."""
        return (Candidates(self.name),)

    def outcome(self, study: Study) -> Outcome:
        """See Method."""
        solved, bill = study.solved(self.name), study.closed_bill(self.needs(study))
        return Outcome({"": study.head(solved.affine, self.name, solved.facts)}, bill, solved.server_cpu, solved.facts)


METHODS: tuple[type[Method], ...] = (Closed,)
