"""Cox's proportional hazards over hospitals: Newton's method from summed gradients and Hessians.

Every hospital is a stratum with a baseline hazard of its own, so its partial likelihood needs no other hospital's cases
and no time of an event leaves: the sums equal those of the pooled, stratified fit. Ties are Breslow's: all events of a
moment share one risk set (Breslow, Biometrics 30, 1974). The ridge penalty is chosen by the cross-validated partial
likelihood (Verweij and van Houwelingen, Statistics in Medicine 12, 1993).
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from medtl_core.errors import DataError
from medtl_core.federation.hospitals import ArraySpec, Request
from medtl_core.federation.method import Method, Outcome, Share, Study
from medtl_core.federation.tasks import Arrays, Config, SiteData
from medtl_core.heads.statistics import Float
from medtl_core.methods.tables.records import TableHead
from medtl_core.methods.tables.scaling import PHASE, SCALED, Scaling, scaling_of
from medtl_core.values import Array, Released, Update

#: Of half the coefficients' squared length, beside the mean log-likelihood a case.
PENALTIES = (0.003, 0.01, 0.03, 0.1, 0.3)
#: Exchanges at most, and the step below which Newton's method has arrived.
_EXCHANGES, _ARRIVED = 25, 1e-9


@dataclass(frozen=True)
class Followed:
    """Cases that were followed over time.

    Attributes:
        inputs: float64 [n, d].
        times: float64 [n], of the event, or until when none was seen.
        event: bool [n].
    """

    inputs: Float
    times: Float
    event: NDArray[np.bool_]

    def take(self, index: Array) -> Self:
        """Returns the cases at `index` (int or bool [m])."""
        return type(self)(self.inputs[index], self.times[index], self.event[index])


def likelihood(cases: Followed, weights: Float) -> tuple[float, Float, Float]:
    """Returns Cox's partial log-likelihood at weights [d], its gradient [d] and its negative Hessian [d, d]."""
    inputs, event = cases.inputs, cases.event
    if not event.any():
        return 0.0, np.zeros(len(weights)), np.zeros((len(weights), len(weights)))
    moments, moment = np.unique(-cases.times, return_inverse=True)  # latest first: a risk set is all that came before
    deaths = np.bincount(moment, event, len(moments))
    risk = inputs @ weights
    shift = float(risk.max())
    hazard = np.exp(risk - shift)
    total = np.cumsum(np.bincount(moment, hazard, len(moments)))
    by_moment = np.zeros((len(moments), inputs.shape[1]))
    np.add.at(by_moment, moment, hazard[:, None] * inputs)
    mean = np.cumsum(by_moment, axis=0) / total[:, None]
    at_risk = np.cumsum((deaths / total)[::-1])[::-1][moment]  # the baseline hazard up to a case's own time
    value = min(float(risk[event].sum() - deaths @ (np.log(total) + shift)), 0.0)  # of one case, 0 but for rounding
    gradient = inputs[event].sum(axis=0) - deaths @ mean
    hessian = (inputs.T * (hazard * at_risk)) @ inputs - (mean.T * deaths) @ mean
    return value, gradient, hessian


def cox_sums(site: SiteData, arrays: Arrays, config: Config) -> Released:
    """Partial log-likelihood, gradient and negative Hessian at `weights` [F + 1, P, d], by set of cases and penalty.

    Set 0 holds all cases of the hospital, set s > 0 those outside fold s - 1. Of a Hessian its upper triangle is sent.
    """
    weights = arrays["weights"].astype(np.float64)
    cases, fold = _followed(site, arrays), site.fold(len(weights) - 1)
    rows = [np.arange(len(fold)), *(np.flatnonzero(fold != index) for index in range(len(weights) - 1))]
    upper = np.triu_indices(weights.shape[2])
    value, gradient, hessian = (
        np.zeros(weights.shape[:2]),
        np.zeros(weights.shape),
        np.zeros((*weights.shape[:2], len(upper[0]))),
    )
    for place in np.ndindex(weights.shape[:2]):
        value[place], gradient[place], full = likelihood(cases.take(rows[place[0]]), weights[place])
        hessian[place] = full[upper]
    return Released(Update({"value": value, "gradient": gradient, "hessian": hessian}))


def cox_validate(site: SiteData, arrays: Arrays, config: Config) -> Released:
    """What the cases of each fold add to the partial log-likelihood at weights fitted without it [F, P, d], summed."""
    weights = arrays["weights"].astype(np.float64)
    cases, fold = _followed(site, arrays), site.fold(len(weights))
    added = np.zeros(weights.shape[1])
    for index, stack in enumerate(weights):
        rest = cases.take(fold != index)
        added += [likelihood(cases, at)[0] - likelihood(rest, at)[0] for at in stack]
    return Released(Update({"added": added}))


def _followed(site: SiteData, arrays: Arrays) -> Followed:
    inputs, event = SCALED.read(site, arrays, {})
    if site.material is None or "time" not in site.material.examples.columns:
        raise DataError("the cases hold no times; name the columns of event and time in schema.toml")
    return Followed(np.asarray(inputs, np.float64), site.material.examples["time"], event.astype(bool))


class Cox(Method):
    """Survival: Cox regression stratified by hospital, Breslow ties, penalty by cross-validated partial likelihood."""

    syntax = "cox"
    reads = ("folds",)
    cases = "followed"

    def outcome(self, study: Study) -> Outcome:
        """See Method: a case's logit is its log hazard ratio to one that is usual in everything."""
        scaling, start = scaling_of(study), time.thread_time()
        fitted, exchanges = _fit(study, scaling)
        shape = (len(PENALTIES),)
        arrays = {**scaling.arrays, "weights": fitted[1:]}
        request = Request("cox_validate", arrays, expect={"added": ArraySpec(shape)}, phase="cox_validate")
        added = study.hospitals.total(request)["added"]
        best = int(np.argmax(added))
        facts = {
            "penalty": PENALTIES[best], "cv_log_likelihood": float(added[best]), "exchanges": exchanges,
            "strata": "hospital", "ties": "Breslow",
        }  # fmt: skip
        head = np.zeros((2, fitted.shape[2] + 1))
        head[1, :-1] = fitted[0, best]
        problem = study.problem
        model = TableHead(head, scaling, problem.classes, problem.fingerprint, facts)
        bill = dict.fromkeys((PHASE, "cox", "cox_validate"), Share())
        return Outcome({"": model}, bill, time.thread_time() - start, facts)


def _fit(study: Study, scaling: Scaling) -> tuple[Float, int]:
    """Weights [F + 1, P, d] at which the penalised mean log-likelihood is largest, and the number of exchanges."""
    sets, width = study.settings.folds + 1, 2 * len(scaling.centre)
    shape = (sets, len(PENALTIES))
    expect = {
        "value": ArraySpec(shape, most=0.0),
        "gradient": ArraySpec((*shape, width)), "hessian": ArraySpec((*shape, width * (width + 1) // 2)),
    }  # fmt: skip
    cases, penalty = float(sum(study.hospitals.weights.values())), np.asarray(PENALTIES)
    held = ahead = np.zeros((*shape, width))
    best, step = np.full(shape, -np.inf), np.zeros((*shape, width))
    exchanges = 0
    while exchanges < _EXCHANGES:
        exchanges += 1
        request = Request("cox_sums", {**scaling.arrays, "weights": ahead}, expect=expect, phase="cox")
        sums = study.hospitals.total(request)
        value = sums["value"] / cases - penalty * np.square(ahead).sum(axis=2) / 2
        uphill = (value >= best - 1e-12)[..., None]
        fresh = _newton(sums, ahead, cases)
        step = np.where(uphill, fresh, step / 2)
        held, best = np.where(uphill, ahead, held), np.where(uphill[..., 0], value, best)
        if np.abs(step).max() < _ARRIVED:
            break
        ahead = held + step
    return held, exchanges


def _newton(sums: Mapping[str, Array], weights: Float, cases: float) -> Float:
    """Newton's step [F + 1, P, d] for the penalised mean log-likelihood."""
    penalty = np.asarray(PENALTIES)[:, None]
    slope = sums["gradient"] / cases - penalty * weights
    width = weights.shape[2]
    curve, upper = np.zeros((*weights.shape, width)), np.triu_indices(width)
    curve[..., upper[0], upper[1]] = curve[..., upper[1], upper[0]] = sums["hessian"] / cases
    curve += penalty[..., None] * np.eye(width)
    return np.asarray(np.linalg.solve(curve, slope[..., None])[..., 0])


METHODS = (Cox,)
TASKS = {task.__name__: task for task in (cox_sums, cox_validate)}
