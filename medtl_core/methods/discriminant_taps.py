"""The discriminant on the run of neighbouring taps that cross-validation prefers, all from the same sums."""

from medtl_core.federation.method import Candidates, Method, Outcome, Study


class DiscriminantTaps(Method):
    """The discriminant on the taps that cross-validation chooses from the same sums."""

    syntax = "discriminant-taps"

    def needs(self, study: Study) -> tuple[Candidates, ...]:
        """See Method."""
        return tuple(Candidates("discriminant", taps) for taps in study.runs())

    def outcome(self, study: Study) -> Outcome:
        """See Method."""
        heads = {taps: study.solved("discriminant", taps) for taps in study.runs()}
        best = min(heads, key=lambda taps: heads[taps].choice.loss)
        facts = {**heads[best].facts, "taps": best}
        head = study.head(heads[best].affine, "discriminant", facts)
        spent = sum(solved.server_cpu for solved in heads.values())
        return Outcome({"": head}, study.closed_bill(self.needs(study)), spent, facts)


METHODS = (DiscriminantTaps,)
