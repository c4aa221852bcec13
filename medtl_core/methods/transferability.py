"""Which source, which layer? Scores of frozen features for a target task, from sums over hospitals only.

`taps@4+7` judges the features of some taps. Hospitals send counts, class sums and Gram matrix of those columns per
fold, then held-out losses and hits of the server's heads. From these the server has, as if it held the features:

- cross-validated log-loss and balanced accuracy of the shrunk discriminant, and accuracy of the nearest class mean;
- LogME (You et al., ICML 2021): the evidence of a Bayesian linear model, averaged over classes.

The higher, the better, for every score. Cross-validated loss is the standard that the cheaper ones are held against:
squared-error evidence ignores rare classes (docs/sources.md has what each of them is worth).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np
from numpy.typing import NDArray

from medtl_core.errors import ConfigError, did_you_mean
from medtl_core.federation.feature_map import FeatureMap, solve, tasks_of
from medtl_core.federation.method import Method
from medtl_core.federation.outcome import Outcome, Problem, Share
from medtl_core.federation.study import Study
from medtl_core.federation.tasks import Arrays, Config, SiteData, Task
from medtl_core.heads.closed_form import FAMILIES
from medtl_core.methods.logme import logme

#: Score -> what it is, in the order tables show them.
SCORES: Mapping[str, str] = {
    "cv-loss": "cross-validated discriminant: minus its class-balanced log-loss",
    "cv-accuracy": "cross-validated discriminant: balanced accuracy",
    "nearest-mean": "cross-validated nearest class mean: balanced accuracy",
    "logme": "log evidence of a linear model per case, mean over classes",
}

#: The word for all agreed taps.
EVERY = "all"


@final
@dataclass(frozen=True)
class TapDiscriminant(Method):
    """The discriminant on some of the agreed taps, with the transferability scores of their features as facts.

    Attributes:
        taps: joined by "+", or "all".
    """

    syntax: ClassVar[str] = r"taps@(?P<taps>[\w.]+(\+[\w.]+)*)"
    example: ClassVar[str] = "taps@all"
    summary: ClassVar[str] = "the discriminant on these taps, with LogME and cross-validated scores of them"

    taps: str

    def outcome(self, study: Study) -> Outcome:
        """See Method.

        Raises:
            ConfigError: a tap is not among the agreed features.
            DataError: the hospitals together show fewer than two classes.
        """
        columns = columns_of(study.problem, self.taps)
        reading = study.reading(TAPS, {"columns": columns}, width=len(columns))
        sums = reading.sums(f"statistics@{self.taps}")
        evidence = logme(sums.whole)  # refuses a single class before anything more is asked
        candidates = {name: (FAMILIES[name], sums) for name in ("nearest-mean", "discriminant")}
        nearest, best = solve(reading, candidates, f"validate@{self.taps}").values()
        wide = np.zeros((len(best.affine), study.problem.width + 1))
        wide[:, columns], wide[:, -1] = best.affine[:, :-1], best.affine[:, -1]
        scores = {
            "cv-loss": -best.choice.loss, "cv-accuracy": best.choice.balanced_accuracy,
            "nearest-mean": nearest.choice.balanced_accuracy, "logme": evidence,
        }  # fmt: skip
        facts = {
            "taps": self.taps, "width": len(columns), "strength": best.strength,
            "temperature": best.choice.temperature, "scores": scores,
        }  # fmt: skip
        bill = {f"statistics@{self.taps}": Share(), f"validate@{self.taps}": Share()}
        spent = nearest.server_cpu + best.server_cpu
        return Outcome({"": study.head(wide, "discriminant", facts)}, bill, spent, facts)


def columns_of(problem: Problem, taps: str) -> NDArray[np.int64]:
    """Returns the feature columns of taps joined by "+", or of all of them.

    Raises:
        ConfigError: a tap is not among the agreed ones, or named twice.
    """
    known = {name: (start, stop) for name, start, stop in problem.groups}
    asked = list(known) if taps == EVERY else taps.split("+")
    for tap in asked:
        if tap not in known:
            raise ConfigError(f"taps@{taps}: tap {tap!r} is not among the agreed features; {did_you_mean(tap, known)}")
    if len(set(asked)) < len(asked):
        raise ConfigError(f"taps@{taps} names a tap twice")
    return np.concatenate([np.arange(*known[tap], dtype=np.int64) for tap in asked])


def _read(site: SiteData, arrays: Arrays, config: Config) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    columns = np.asarray(arrays["columns"], dtype=np.int64)
    if not len(columns) or columns.min() < 0 or columns.max() >= site.values.shape[1]:
        raise ConfigError(f"the server asked for feature columns outside 0..{site.values.shape[1] - 1}")
    return site.values[:, columns], site.label


#: Some feature columns.
TAPS = FeatureMap("tap", _read)

METHODS: tuple[type[Method], ...] = (TapDiscriminant,)
TASKS: Mapping[str, Task] = tasks_of(TAPS)
