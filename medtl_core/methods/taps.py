"""Which source, which layer? Scores of frozen features for a target task, from sums over hospitals only.

`taps@4+7` judges the features of some taps: the shrunk discriminant's cross-validated log-loss and balanced accuracy,
the accuracy of the nearest class mean, and LogME. Cross-validated loss is the standard that the cheaper ones are held
against: squared-error evidence ignores rare classes (docs/sources.md has what each of them is worth).
"""

from dataclasses import dataclass

from medtl_core.federation.feature_map import Grid, solve
from medtl_core.federation.method import Method, Outcome, Share, Study
from medtl_core.heads.closed_form import FAMILIES, widened
from medtl_core.methods.logme import logme
from medtl_core.methods.tap_columns import TAPS, columns_of

#: Scores, in the order tables show them; the higher, the better.
SCORES = ("cv-loss", "cv-accuracy", "nearest-mean", "logme")


@dataclass(frozen=True)
class TapDiscriminant(Method):
    """The discriminant on these taps, with LogME and cross-validated scores of them."""

    syntax = r"taps@(?P<taps>[\w.]+(\+[\w.]+)*)"
    reads = ("folds",)
    example = "taps@all"

    taps: str

    def outcome(self, study: Study) -> Outcome:
        """See Method.

        Raises:
            ConfigError: a tap is not among the agreed features.
            DataError: the hospitals together show fewer than two classes.
        """
        columns, phases = columns_of(study.problem, self.taps), (f"statistics@{self.taps}", f"validate@{self.taps}")
        reading = study.reading(TAPS, {"columns": columns}, width=len(columns))
        sums = reading.sums(phases[0])
        evidence = logme(sums.whole)  # refuses a single class before anything more is asked
        grids = {name: Grid.of(FAMILIES[name], sums) for name in ("nearest-mean", "discriminant")}
        nearest, best = solve(reading, grids, phases[1]).values()
        wide = widened(best.affine, columns, study.problem.width)
        scores = (-best.choice.loss, best.choice.balanced_accuracy, nearest.choice.balanced_accuracy, evidence)
        facts = {
            "taps": self.taps, "width": len(columns), "strength": best.strength,
            "temperature": best.choice.temperature, "scores": dict(zip(SCORES, scores, strict=True)),
        }  # fmt: skip
        head = study.head(wide, "discriminant", facts)
        return Outcome({"": head}, dict.fromkeys(phases, Share()), nearest.server_cpu + best.server_cpu, facts)


METHODS = (TapDiscriminant,)
