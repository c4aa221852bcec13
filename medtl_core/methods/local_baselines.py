"""Each hospital alone, with scikit-learn's classifiers: what collaboration has to beat.

Nothing but evaluation sums leaves, so they need `test=sites`: some of the models consist of training cases.
"""

from dataclasses import dataclass

from medtl_core.evaluation.federated import contradiction, expected_shapes
from medtl_core.federation.hospitals import ArraySpec, Request
from medtl_core.federation.method import Method, Outcome, Share, Study
from medtl_core.values import Update


@dataclass(frozen=True)
class LocalBaseline(Method):
    """Each hospital alone: scikit-learn's classifiers, fitted and judged where the cases are."""

    syntax = "local-(?P<recipe>logistic|svm|svm-rbf|knn|boosting)"
    example = "local-logistic"
    test = "sites"

    recipe: str

    def outcome(self, study: Study) -> Outcome:
        """See Method."""
        expect = {
            key: ArraySpec(shape, least=0.0) for key, shape in expected_shapes(len(study.problem.classes)).items()
        }
        replies = list(
            study.hospitals.ask(
                Request("local_judged", {}, {"recipe": self.recipe}, expect, self.name, check=contradiction)
            )
        )
        fitted = {
            reply.site: {key: reply.metrics.get(key) for key in ("strength", "not-converged")} for reply in replies
        }
        facts = {"judged": "each hospital's own model on its own held-out cases", "hospitals": fitted}
        sums = {reply.site: Update(reply.arrays) for reply in replies}
        return Outcome({}, {self.name: Share()}, 0.0, facts, own_sums=sums)


METHODS = (LocalBaseline,)
