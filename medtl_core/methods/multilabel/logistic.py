"""Logistic regression of each finding on all hospitals' cases, in the same handful of exchanges for all of them.

Each finding takes the steps that `methods.logistic` takes for two classes, from sums over the cases of which it is
known: what is assumed of its curvature is that of all cases, which is never less. What travels is the difference of the
two classes' rows, the log-odds.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from medtl_core.federation.feature_map import Grid
from medtl_core.federation.hospitals import ArraySpec, Request
from medtl_core.federation.method import Method, Outcome, Share, Study
from medtl_core.federation.rounds import ROUNDS
from medtl_core.federation.tasks import Arrays, Config, SiteData
from medtl_core.heads.linear import to_raw, with_bias
from medtl_core.heads.statistics import ROUNDING, Float, is_few
from medtl_core.methods.balanced import log_share
from medtl_core.methods.descent import PENALTIES, Curvature, Descent
from medtl_core.methods.logistic import USUAL, told_gradient, without_fold
from medtl_core.methods.multilabel.model import FindingsHead, marked
from medtl_core.methods.multilabel.solving import solved_of, validate_phase
from medtl_core.methods.multilabel.sums import PHASE, LabelSums, labels_of, sums_of
from medtl_core.values import Released, Update


def label_gradient(site: SiteData, arrays: Arrays, config: Config) -> Released:
    """Summed gradients of log-odds `heads` [S, P, L, d + 1] on standardised inputs, plus `offset` [S, L].

    As in `methods.logistic.logistic_gradient`, a hospital with few cases tells `rows` [n, S - 1, P, L] in the basis of
    its roots, others `gradient` [S, P, L, d + 1]; beside stand the `known` cases [S, L].
    """
    labels, heads = labels_of(site.material), arrays["heads"].astype(np.float64)
    folds, known = len(heads) - 1, labels >= 0
    fold, inputs = site.fold(folds), with_bias(site.values, arrays["mean"], arrays["scale"])
    odds = (inputs @ heads.reshape(-1, heads.shape[-1]).T).reshape(-1, *heads.shape[:3]) + arrays["offset"][:, None]
    error = (0.5 + 0.5 * np.tanh(0.5 * odds) - (labels == 1)[:, None, None]) * known[:, None, None]
    error[np.arange(len(fold)), fold + 1] = 0.0
    cases = np.stack([known.sum(axis=0), *(known[fold != index].sum(axis=0) for index in range(folds))])
    told = {"known": cases.astype(np.float64)}
    if not (config["in-rows"] and is_few(*site.values.shape)):
        told["gradient"] = np.tensordot(error, inputs, axes=(0, 0)).astype(np.float32)
        return Released(Update(told))
    parts = enumerate(site.bases(folds))
    rows = [np.tensordot(basis.T, error[fold == at][:, without_fold(at, folds + 1)], axes=1) for at, basis in parts]
    return Released(Update({**told, "rows": np.concatenate(rows).astype(np.float32)}))


@dataclass(frozen=True)
class _LabelExchanges:
    """The exchanges in which all findings are solved side by side."""

    study: Study
    rounds: int
    sums: LabelSums

    @property
    def phase(self) -> str:
        """Label under which they are booked."""
        return f"label_logistic-{self.rounds}"

    def grid(self) -> Grid:
        """Returns the heads at every penalty, of all cases and without each fold."""
        start, sums = time.thread_time(), self.sums
        whole, findings = sums.shared.whole, range(sums.counts.shape[1])
        mean, scale = whole.mean, whole.scale
        bound = Curvature.of(whole.spectrum(), whole.counts, np.arange(len(mean)))
        ways = [Descent.start(self._bound(bound, at), sums.told_apart(at), mean, scale) for at in findings]
        shares = [[log_share(counts) for counts in part] for part in sums.counts]
        fixed = {"mean": mean, "scale": scale, "offset": np.diff(np.array(shares), axis=2)[..., 0]}
        for _ in range(self.rounds):
            heads = np.stack([way.ahead[:, :, 1] - way.ahead[:, :, 0] for way in ways], axis=2).astype(np.float32)
            slopes = self._gradient({**fixed, "heads": heads})
            ways = [way.stepped(np.stack([-slopes[:, :, at], slopes[:, :, at]], 2)) for at, way in enumerate(ways)]
        raw = to_raw(np.stack([way.heads[:, :, 1] - way.heads[:, :, 0] for way in ways], axis=2), mean, scale)
        first, *others = (marked(heads, counts) for heads, counts in zip(raw, sums.counts, strict=True))
        return Grid(PENALTIES, first, np.stack(others), sums.counts[0], time.thread_time() - start)

    def _bound(self, every: Curvature, place: int) -> Curvature:
        """What is assumed of one finding's curvature: that of all cases, counted on those of which it is known."""
        counts = self.sums.counts[0, place]
        known = max(float(counts.sum()), 1.0)
        share = max(2.0 * float(counts.prod()) / known**2, 0.25)
        return replace(every, share=share * self.sums.shared.whole.cases / known)

    def _gradient(self, arrays: Arrays) -> Float:
        """The gradient [S, P, L, d + 1] of the mean log-loss over known cases of the hospitals that answer."""
        sets, stack, findings, wide = arrays["heads"].shape
        rows = self.sums.shared.rows

        def shapes(cases: int) -> Mapping[str, ArraySpec]:
            known = {"known": ArraySpec((sets, findings), least=0.0, most=cases, step=1.0)}
            if rows and is_few(cases, wide - 1):
                most = np.sqrt(cases) * (1.0 + ROUNDING)  # a direction of a case's error, which is at most one
                return {**known, "rows": ArraySpec((cases, sets - 1, stack, findings), "float32", -most, most)}
            return {**known, "gradient": ArraySpec((sets, stack, findings, wide), "float32")}

        total, known = np.zeros(arrays["heads"].shape), np.zeros((sets, findings))
        request = Request("label_gradient", arrays, {"in-rows": bool(rows)}, phase=self.phase, by_cases=shapes)
        for reply in self.study.hospitals.ask(request):
            if "gradient" in reply.arrays:
                total += reply.arrays["gradient"]
            elif reply.site in rows:
                total += told_gradient({reply.site: reply.arrays["rows"]}, rows, arrays)
            else:  # its sums never came
                continue
            known += reply.arrays["known"]
        return np.asarray(total / np.maximum(known, 1.0)[:, None, :, None])


def logistic_grid(study: Study, rounds: int) -> tuple[Grid, str]:
    """Returns the heads after so many exchanges, which a study has once, and the label of these."""
    exchanges = _LabelExchanges(study, rounds, sums_of(study))
    return study.once(exchanges.phase, exchanges.grid), exchanges.phase


@dataclass(frozen=True)
class LabelLogistic(Method):
    """Multi-label: logistic regression of each finding, for balanced sides; penalty, temperature by cross-validation.

    Attributes:
        rounds: exchanges of gradients.
    """

    syntax = f"logistic(?:{ROUNDS})?"
    example = "logistic-5"

    rounds: int = USUAL

    def outcome(self, study: Study) -> Outcome:
        """See Method."""
        grid, phase = logistic_grid(study, self.rounds)
        (solved,) = solved_of(study, {self.name: grid})
        head = FindingsHead.of(study, solved.affine, "logistic", {"exchanges": self.rounds, **solved.facts})
        bill = dict.fromkeys((PHASE, phase, validate_phase([self.name])), Share())
        return Outcome({"": head}, bill, solved.server_cpu, head.facts)


LABEL_METHODS = (LabelLogistic,)
TASKS = {label_gradient.__name__: label_gradient}
