"""Heads solved from sums, without a round of training."""

from medtl_core.federation.method import Candidates, Method, Outcome, Study
from medtl_core.heads.closed_form import FAMILIES


class Closed(Method):
    """Solved by the server from summed statistics; strength and temperature by cross-validation."""

    syntax = "|".join(FAMILIES)
    reads = ("folds",)
    example = "discriminant"

    def needs(self, study: Study) -> tuple[Candidates, ...]:
        """See Method."""
        return (Candidates(self.name),)

    def outcome(self, study: Study) -> Outcome:
        """See Method."""
        solved, bill = study.solved(Candidates(self.name)), study.closed_bill(self.needs(study))
        study.once(f"folds/{self.name}", lambda: solved.without)
        return Outcome({"": study.head(solved.affine, self.name, solved.facts)}, bill, solved.server_cpu, solved.facts)


METHODS = (Closed,)
