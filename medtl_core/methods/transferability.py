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
from medtl_core.federation.folds import total
from medtl_core.federation.hospitals import ArraySpec, Request
from medtl_core.federation.method import Method
from medtl_core.federation.outcome import Outcome, Problem, Share
from medtl_core.federation.study import Study
from medtl_core.federation.tasks import Arrays, Config, SiteData, Task
from medtl_core.heads.closed_form import FAMILIES
from medtl_core.heads.crossval import TEMPERATURES, Choice, choose, fold_of, held_out
from medtl_core.heads.logme import logme
from medtl_core.heads.statistics import Float, Statistics, collect, pack, unpack
from medtl_core.values import Array, Released, Update

#: Score -> what it is, in the order tables show them.
SCORES: Mapping[str, str] = {
    "cv-loss": "cross-validated discriminant: minus its class-balanced log-loss",
    "cv-accuracy": "cross-validated discriminant: balanced accuracy",
    "nearest-mean": "cross-validated nearest class mean: balanced accuracy",
    "logme": "log evidence of a linear model per case, mean over classes",
}

#: The word for all agreed taps.
EVERY = "all"
_FAMILIES = ("nearest-mean", "discriminant")


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
        folds = _folds(study, columns, self.taps)
        with study.clock(self.name) as spent:
            everything = sum(folds[1:], start=folds[0])
            evidence = logme(everything)  # refuses a single class before anything more is asked
            stacks = {name: np.stack([FAMILIES[name].heads(everything - fold) for fold in folds]) for name in _FAMILIES}
        choices = _choices(study, columns, self.taps, stacks, everything.counts)
        best, strengths = choices["discriminant"], FAMILIES["discriminant"].strengths
        with study.clock(self.name) as more:
            affine = FAMILIES["discriminant"].heads(everything)[best.index] * best.temperature
        wide = np.zeros((len(affine), study.problem.width + 1))
        wide[:, columns], wide[:, -1] = affine[:, :-1], affine[:, -1]
        facts = {
            "taps": self.taps, "width": len(columns), "strength": strengths[best.index],
            "temperature": best.temperature, "scores": {**_scores(choices), "logme": evidence},
        }  # fmt: skip
        bill = {f"statistics@{self.taps}": Share(), f"validate@{self.taps}": Share()}
        return Outcome({"": study.head(wide, "discriminant", facts)}, bill, spent[0] + more[0], facts)


def _scores(choices: Mapping[str, Choice]) -> dict[str, float]:
    """The cross-validated ones of `SCORES`."""
    return {
        "cv-loss": -choices["discriminant"].loss,
        "cv-accuracy": choices["discriminant"].balanced_accuracy,
        "nearest-mean": choices["nearest-mean"].balanced_accuracy,
    }


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


def tap_statistics(site: SiteData, arrays: Arrays, config: Config) -> Released:
    """Counts, class sums and Gram matrix of some feature columns, per fold; see `heads.statistics`."""
    columns, folds = _checked(site, arrays), int(config["folds"])
    fold = fold_of(site.patients, site.label, folds, site.seed)
    values = site.values[:, columns]
    return Released(pack([collect(values[fold == f], site.label[fold == f], site.classes) for f in range(folds)]))


def tap_validate(site: SiteData, arrays: Arrays, config: Config) -> Released:
    """Log-loss and hits of fold heads on some feature columns of held-out cases; see `heads.crossval`."""
    columns = _checked(site, arrays)
    fold = fold_of(site.patients, site.label, int(config["folds"]), site.seed)
    return Released(held_out(arrays["heads"], site.values[:, columns], site.label, fold))


def _checked(site: SiteData, arrays: Arrays) -> NDArray[np.int64]:
    columns = np.asarray(arrays["columns"], dtype=np.int64)
    if not len(columns) or columns.min() < 0 or columns.max() >= site.values.shape[1]:
        raise ConfigError(f"the server asked for feature columns outside 0..{site.values.shape[1] - 1}")
    return columns


def _folds(study: Study, columns: NDArray[np.int64], taps: str) -> list[Statistics]:
    folds, width, classes = study.settings.folds, len(columns), len(study.problem.classes)
    expect = {
        "counts": ArraySpec((folds, classes)),
        "sums": ArraySpec((folds, classes, width)),
        "gram": ArraySpec((folds, width * (width + 1) // 2)),
    }
    request = Request("tap_statistics", {"columns": columns}, {"folds": folds}, expect, f"statistics@{taps}")
    return unpack(Update(total(reply.arrays for reply in study.hospitals.ask(request))))


def _choices(
    study: Study, columns: NDArray[np.int64], taps: str, stacks: Mapping[str, Float], counts: Float
) -> dict[str, Choice]:
    """Cross-validates the fold heads [F, S, C, d + 1] of every family in one exchange."""
    heads = np.concatenate(list(stacks.values()), axis=1).astype(np.float32)
    strengths, classes = heads.shape[1:3]
    expect = {
        "losses": ArraySpec((strengths, len(TEMPERATURES), classes)),
        "hits": ArraySpec((strengths, classes)),
    }
    arrays: dict[str, Array] = {"columns": columns, "heads": heads}
    request = Request("tap_validate", arrays, {"folds": study.settings.folds}, expect, f"validate@{taps}")
    sums = total(reply.arrays for reply in study.hospitals.ask(request))
    choices, start = {}, 0
    for name, stack in stacks.items():
        stop = start + stack.shape[1]
        choices[name], start = choose(Update({key: array[start:stop] for key, array in sums.items()}), counts), stop
    return choices


METHODS: tuple[type[Method], ...] = (TapDiscriminant,)
TASKS: Mapping[str, Task] = {"tap_statistics": tap_statistics, "tap_validate": tap_validate}
