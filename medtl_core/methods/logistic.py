"""Logistic regression on all hospitals' cases, exact and cross-validated, in a handful of exchanges.

Hospitals sum the gradients of one stack of heads: for each penalty that of all cases and, for the cross-validation,
those without each fold. The server takes the steps (`methods.descent`). The loss absorbs the prior of all hospitals, so
that the plain logits are those of balanced classes (logit-adjusted loss, Menon et al., ICLR 2021).
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medtl_core.federation.feature_map import Grid
from medtl_core.federation.hospitals import ArraySpec, Request
from medtl_core.federation.method import Candidates, Method, Outcome, Share, Study
from medtl_core.federation.rounds import ROUNDS
from medtl_core.federation.tasks import Arrays, Config, SiteData
from medtl_core.heads.linear import softmax, to_raw
from medtl_core.heads.statistics import ROUNDING, Float, is_few
from medtl_core.methods.balanced import log_share
from medtl_core.methods.descent import PENALTIES, Curvature, Descent
from medtl_core.values import Array, Released, Update

Index = NDArray[np.int64]

#: Exchanges unless stated.
USUAL = 5


@dataclass(frozen=True)
class Penalised(Candidates):
    """A need: the logistic head after so many exchanges, at every penalty (phase "logistic-R")."""

    rows = True

    rounds: int = USUAL

    @classmethod
    def after(cls, rounds: int, columns_key: str = "") -> "Penalised":
        """Returns the need."""
        return cls(f"logistic-{rounds}", columns_key, rounds)

    @property
    def strengths(self) -> tuple[float, ...]:
        """The penalties."""
        return PENALTIES

    def grid(self, study: Study) -> Grid:
        """See Candidates: all that some method declared go through the same exchanges."""
        return study.once(self.family, lambda: _Exchanges(study, self.rounds, self._together(study)).grids())[self]

    def bill(self, study: Study, count: int = 1) -> dict[str, Share]:
        """Returns the bill of the exchanges for a method that needs `count` choices of columns."""
        exchanges = _Exchanges(study, self.rounds, self._together(study))
        return {self.family: exchanges.share(count)}

    def _together(self, study: Study) -> tuple["Penalised", ...]:
        same = [need for need in study.needs if isinstance(need, Penalised) and need.rounds == self.rounds]
        return tuple(dict.fromkeys(same)) or (self,)


@dataclass(frozen=True)
class _Exchanges:
    """The exchanges in which some choices of columns are solved side by side."""

    study: Study
    rounds: int
    needs: tuple[Penalised, ...]

    def grids(self) -> dict[Penalised, Grid]:
        """Returns what each choice of columns gave."""
        start = time.thread_time()
        study, whole = self.study, self.study.statistics
        sets, mean, scale = (whole, *study.sums.without), whole.mean, whole.scale
        every, runs, ways = np.arange(study.problem.width), study.runs(), {}
        if any(type(need) is Candidates and not need.columns_key for need in study.needs):  # they take every spectrum
            whole = study.sums.decomposed.whole
        for need in self.needs:
            columns = runs[need.columns_key] if need.columns_key else every
            part = whole.select(columns) if need.columns_key else whole
            bound = Curvature.of(part.spectrum(), whole.counts, columns)
            ways[need] = Descent.start(bound, sets, mean, scale)
        fixed = {"mean": mean, "scale": scale, "offset": np.stack([log_share(part.counts) for part in sets])}
        for _ in range(self.rounds):
            heads = np.concatenate([way.ahead for way in ways.values()], axis=1).astype(np.float32)
            gradients = np.split(self._gradient({**fixed, "heads": heads}), len(ways), axis=1)
            ways = {need: way.stepped(slope) for (need, way), slope in zip(ways.items(), gradients, strict=True)}
        cpu, seen, grids = (time.thread_time() - start) / len(ways), [part.counts > 0.5 for part in sets], {}
        for need, way in ways.items():
            raw = np.stack([to_raw(heads, mean, scale, of) for heads, of in zip(way.heads, seen, strict=True)])
            grids[need] = Grid(PENALTIES, raw[0], raw[1:], whole.counts, cpu)
        return grids

    def _gradient(self, arrays: Arrays) -> Float:
        """The gradient [S, H, C, d + 1] of the mean log-loss, over the cases of the hospitals that answer."""
        sets, stack, classes, wide = arrays["heads"].shape
        known = self.study.sums.rows

        def shapes(cases: int) -> dict[str, ArraySpec]:
            counts = {"cases": ArraySpec((sets,), least=0.0, most=cases, step=1.0)}
            if known and is_few(cases, wide - 1):
                most = np.sqrt(cases) * (1.0 + ROUNDING)  # a direction of a case's error, which is at most one
                return {**counts, "rows": ArraySpec((cases, sets - 1, stack, classes), "float32", -most, most)}
            return {**counts, "gradient": ArraySpec((sets, stack, classes, wide), "float32")}

        total, seen, phase = np.zeros((sets, stack, classes, wide)), np.zeros(sets), f"logistic-{self.rounds}"
        told: dict[str, Array] = {}
        request = Request("logistic_gradient", arrays, {"in-rows": bool(known)}, phase=phase, by_cases=shapes)
        for reply in self.study.hospitals.ask(request):
            if "gradient" in reply.arrays:
                total += reply.arrays["gradient"]
            elif reply.site in known:
                told[reply.site] = reply.arrays["rows"]
            else:  # its sums never came
                continue
            seen += reply.arrays["cases"]
        if told:
            total += told_gradient(told, known, arrays)
        return total / np.maximum(seen, 1.0)[:, None, None, None]

    def share(self, count: int) -> Share:
        """What a method that needs `count` of the choices would have cost alone."""
        study, heads = self.study, len(PENALTIES)
        sets, classes, width = study.settings.folds + 1, len(study.problem.classes), study.problem.width
        whole, weights = 4 * sets * classes * (width + 1), study.hospitals.weights.values()
        few = [cases for cases in weights if study.sums.rows and is_few(cases, width)]
        up = 4 * (sets - 1) * classes * sum(few) + whole * (len(weights) - len(few))
        return Share.among(heads * count, heads * len(self.needs), up=up / max(len(weights), 1), down=whole)


def told_gradient(told: Mapping[str, Array], known: Mapping[str, Sequence[Float]], arrays: Arrays) -> Float:
    """The gradient [S, H, C, d + 1] of hospitals that tell it in the basis of their roots, all of a fold together."""
    total = np.zeros(arrays["heads"].shape)
    parts = [np.split(told[site], np.cumsum([len(part) for part in known[site]])[:-1]) for site in told]
    for fold, errors in enumerate(zip(*parts, strict=True)):
        rows = np.concatenate([known[site][fold] for site in told])
        rows[:, :-1] -= rows[:, -1:] * arrays["mean"]
        rows[:, :-1] /= arrays["scale"]
        part = np.tensordot(np.concatenate(errors).astype(np.float64), rows, axes=(0, 0))
        total[: fold + 1] += part[: fold + 1]
        total[fold + 2 :] += part[fold + 1 :]
    return total


def without_fold(fold: int, sets: int) -> list[int]:
    """Returns the sets of cases that hold a fold."""
    return [index for index in range(sets) if index != fold + 1]


def logistic_gradient(site: SiteData, arrays: Arrays, config: Config) -> Released:
    """Summed gradients of heads [S, H, C, d + 1] on inputs standardised by `mean` and `scale`, plus `offset` [S, C].

    Set 0 holds all cases, set s > 0 those outside fold s - 1. A hospital with few cases, whose roots the server keeps
    ("in-rows"), tells each sum in the basis of the fold's root, `rows` [n, S - 1, H, C] for the sets that hold it;
    others tell `gradient` [S, H, C, d + 1]. Beside stand the `cases` [S] of each set.
    """
    heads, folds = arrays["heads"].astype(np.float64), len(arrays["heads"]) - 1
    fold, inputs = site.fold(folds), site.lesson(arrays["mean"], arrays["scale"]).inputs
    error = _errors(heads, arrays["offset"], inputs, site.label, fold)
    cases = np.array([len(fold), *(np.sum(fold != index) for index in range(folds))], np.float64)
    if not (config["in-rows"] and is_few(len(inputs), site.values.shape[1])):
        gradient = np.tensordot(error, inputs, axes=(0, 0)).astype(np.float32)
        return Released(Update({"cases": cases, "gradient": gradient}))
    told = [
        np.tensordot(basis.T, error[fold == index][:, without_fold(index, folds + 1)], axes=(1, 0))
        for index, basis in enumerate(site.bases(folds))
    ]
    return Released(Update({"cases": cases, "rows": np.concatenate(told).astype(np.float32)}))


def _errors(heads: Float, offset: Float, inputs: Float, label: Index, fold: Index) -> Float:
    """The gradient of each case's log-loss by its logits, [n, S, H, C]; a case outside a set counts 0 there."""
    residual = softmax((inputs @ heads.reshape(-1, heads.shape[-1]).T).reshape(-1, *heads.shape[:3]) + offset[:, None])
    rows = np.arange(len(label))
    residual[rows, :, :, label] -= 1.0
    residual[rows, fold + 1] = 0.0
    return residual


@dataclass(frozen=True)
class Logistic(Method):
    """Logistic regression on all cases, for balanced classes; penalty and temperature by cross-validation.

    Attributes:
        rounds: exchanges of gradients.
    """

    syntax = f"logistic(?:{ROUNDS})?"
    reads = ("folds",)
    example = "logistic-5"

    rounds: int = USUAL

    def needs(self, study: Study) -> tuple[Candidates, ...]:
        """See Method."""
        return (Penalised.after(self.rounds),)

    def outcome(self, study: Study) -> Outcome:
        """See Method."""
        need = Penalised.after(self.rounds)
        solved = study.solved(need)
        study.once(f"folds/{self.name}", lambda: solved.without)
        facts = {"exchanges": self.rounds, **solved.facts}
        bill = {**study.closed_bill([need]), **need.bill(study)}
        return Outcome({"": study.head(solved.affine, "logistic", facts)}, bill, solved.server_cpu, facts)


METHODS = (Logistic,)
TASKS = {logistic_gradient.__name__: logistic_gradient}
