"""Vector scaling: each class's logit of another method's head times a factor plus an offset (Guo et al., ICML 2017).

The loss of 2 C numbers is convex, and its value, gradient and curvature are sums over cases, each scored by the head
that never saw its fold. So hospitals can tell them, fold by fold, and a handful of Newton steps finds the numbers of
all cases and those without each fold. The latter judge: the plain head, whose one factor (temperature) is already
chosen so, is left only for one that is better by more than a standard error. A scaled head is an affine head again.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medtl_core.federation.feature_map import at_most
from medtl_core.federation.hospitals import ArraySpec, Request
from medtl_core.federation.method import Method, Need, Outcome, Share, Study
from medtl_core.federation.registry import find_method
from medtl_core.federation.tasks import Arrays, Config, SiteData
from medtl_core.heads.crossval import WORST
from medtl_core.heads.statistics import Float
from medtl_core.methods.auto import clearly_better
from medtl_core.values import Head, Released, Update

#: Pulls factors to 1 and offsets to 0, as a share of the mean loss: without it a head that separates its cases would
#: have no finite scaling.
PENALTY = 0.01
#: Shares of a Newton step tried in one exchange, the most exchanges, and nats from the least loss that suffice.
STEPS, EXCHANGES, ENOUGH = (1.0, 0.5, 0.25, 0.0625), 12, 1e-7
#: The candidates.
PLAIN, VECTOR = "temperature", "vector"

#: From factors and offsets to try [S, G, 2 C] to `scaling_sums` over all hospitals.
Ask = Callable[[Float], Mapping[str, Float]]


def scaling_sums(logits: Float, label: NDArray[np.int64], tried: Float, weight: Float) -> dict[str, Float]:
    """Returns the weighted log-loss of scaled logits [n, C], summed over cases, with gradient and curvature.

    Args:
        logits: [n, C].
        label: int [n].
        tried: factors, then offsets [G, 2 C].
        weight: of each case [n].

    Returns:
        `loss` [G], `gradient` [G, 2 C] and `curvature` [G, 2 C, 2 C].
    """
    classes, rows = logits.shape[1], np.arange(len(label))
    inputs = np.stack([logits, np.ones_like(logits)])
    loss, slope, bend = [], [], []
    for point in tried.reshape(-1, 2, classes):
        scaled = logits * point[0] + point[1]
        scaled -= scaled.max(axis=1, keepdims=True)
        share = np.exp(scaled)
        total = share.sum(axis=1)
        loss.append(weight @ (np.log(total) - scaled[rows, label]))
        share /= total[:, None]
        error = share - np.eye(classes)[label]
        slope.append(np.einsum("n,nc,inc->ic", weight, error, inputs).ravel())
        own = np.einsum("n,nc,inc,jnc->ijc", weight, share, inputs, inputs)
        moved = (inputs * share).swapaxes(1, 2).reshape(2 * classes, -1)
        across = (moved * weight) @ moved.T
        diagonal = np.einsum("ijc,cd->icjd", own, np.eye(classes)).reshape(2 * classes, 2 * classes)
        bend.append(diagonal - across)
    return {"loss": np.asarray(loss), "gradient": np.asarray(slope), "curvature": np.asarray(bend)}


def fitted(ask: Ask, sets: int, classes: int) -> tuple[Float, Float, int]:
    """Returns factors and offsets of least penalised loss [sets, 2 C], that loss [sets] and the exchanges it took."""
    start = np.concatenate([np.ones(classes), np.zeros(classes)])
    best, tried = np.tile(start, (sets, 1)), np.tile(start, (sets, 1, 1))
    loss, every = np.full(sets, np.inf), np.arange(sets)
    slope, bend = np.zeros(best.shape), np.zeros((*best.shape, 2 * classes))
    exchange = 0
    while exchange < EXCHANGES:
        exchange += 1
        sums, away = ask(tried), tried - start
        losses = sums["loss"] + PENALTY / 2 * (away**2).sum(axis=2)
        pick = losses.argmin(axis=1)
        better = losses[every, pick] < loss
        loss = np.where(better, losses[every, pick], loss)
        best[better] = tried[every, pick][better]
        slope[better] = (sums["gradient"] + PENALTY * away)[every, pick][better]
        bend[better] = (sums["curvature"][every, pick] + PENALTY * np.eye(2 * classes))[better]
        step = -np.linalg.solve(bend, slope[..., None])[..., 0]
        if not better.any() or (-(step * slope).sum(axis=1) / 2 < ENOUGH).all():
            break
        tried = best[:, None] + np.asarray(STEPS)[:, None] * step[:, None]
    return best, loss, exchange


def central(logits: Float, label: NDArray[np.int64]) -> tuple[Float, Float]:
    """Returns factor and offset of each class [C] from cases at hand, classes counting alike.

    Example:
        >>> factor, offset = central(np.array([[2.0, 0.0], [2.0, 0.0], [0.0, 1.0]]), np.array([0, 1, 1]))
        >>> bool(offset[1] > offset[0])
        True
    """
    classes = logits.shape[1]
    counts = np.bincount(label, minlength=classes).astype(np.float64)
    weight = _weights(counts)[label]
    best, _, _ = fitted(
        lambda tried: {key: part[None] for key, part in scaling_sums(logits, label, tried[0], weight).items()},
        1, classes,
    )  # fmt: skip
    return best[0, :classes], best[0, classes:]


def vector_scaling(site: SiteData, arrays: Arrays, config: Config) -> Released:
    """Sums of a hospital's cases, each scored by the head that never saw its fold; see `scaling_sums`.

    Reads `heads` [F, C, d + 1], `tried` [F + 1, G, 2 C] and `weight` [F + 1, C]; set 0 holds all cases, set s > 0 those
    outside fold s - 1.
    """
    fold, logits = _out_of_fold(site, arrays["heads"])
    sums = []
    for number, (tried, weight) in enumerate(zip(arrays["tried"], arrays["weight"], strict=True)):
        rows = np.flatnonzero(fold != number - 1)
        sums.append(scaling_sums(logits[rows], site.label[rows], tried, weight[site.label[rows]]))
    return Released(Update({name: np.stack([each[name] for each in sums]) for name in sums[0]}))


def _out_of_fold(site: SiteData, heads: Any) -> tuple[NDArray[np.int64], Float]:
    fold, values, wide = site.fold(len(heads)), np.asarray(site.values, np.float64), heads.astype(np.float64)
    logits = np.zeros((len(fold), wide.shape[1]))
    for index, head in enumerate(wide):
        logits[fold == index] = values[fold == index] @ head[:, :-1].T + head[:, -1]
    return fold, logits


def _weights(counts: Float) -> Float:
    """Of a case of each class [..., C], so that the classes that are shown count alike and all cases add up to one."""
    seen = counts > 0.5
    return np.asarray(
        np.where(seen, 1.0 / np.maximum(counts, 1.0), 0.0) / np.maximum(seen.sum(axis=-1, keepdims=True), 1)
    )


@dataclass(frozen=True)
class Scaled(Method):
    """Another method's head, each class's logit scaled and shifted (vector scaling) where that is clearly better.

    Attributes:
        member: the method, one that is cross-validated.
    """

    syntax = "scaled-(?P<member>auto|discriminant|ridge|nearest-mean)"
    reads = ("folds",)
    example = "scaled-auto"

    member: str

    def needs(self, study: Study) -> tuple[Need, ...]:
        """See Method."""
        return find_method(self.member).needs(study)

    def outcome(self, study: Study) -> Outcome:
        """See Method: a few exchanges find the scaling, and one more says by how much it is better."""
        whole = study.outcome(find_method(self.member))
        head: Any = whole.heads[""]
        without: Float = study.once(f"folds/{self.member}", lambda: np.zeros(0))
        best, exchanges = self._best(study, without)
        scaled = np.stack([_apply(part, point) for part, point in zip(without, best[1:], strict=True)])
        taken, compared = _taken(study, without, scaled, self.name)
        factor, offset = np.split(best[0], 2)
        facts: dict[str, Any] = {
            "member": dict(whole.facts),
            "calibration": taken,
            "scaling": {**compared, "exchanges": exchanges},
        }
        if taken == VECTOR:
            facts["scaling"] |= {"factor": factor.tolist(), "offset": offset.tolist()}
            head = Head(
                head.weight * factor[:, None], head.bias * factor + offset, head.kind, head.classes, head.fingerprint
            )
        study.once(f"folds/{self.name}", lambda: scaled if taken == VECTOR else without)
        affine = np.concatenate([head.weight, head.bias[:, None]], axis=1)
        bill = {**whole.bill, self.name: Share()}
        return Outcome({"": study.head(affine, self.name, facts)}, bill, whole.server_cpu, facts)

    def _best(self, study: Study, without: Float) -> tuple[Float, int]:
        folds, classes = without.shape[:2]
        heads = without.astype(np.float32)
        weight = _weights(np.stack([part.counts for part in (study.statistics, *study.sums.without)]))

        def ask(tried: Float) -> dict[str, Any]:
            shape = tried.shape[:2]
            expect = {
                "loss": ArraySpec(shape, least=0.0),
                "gradient": ArraySpec((*shape, 2 * classes)),
                "curvature": ArraySpec((*shape, 2 * classes, 2 * classes)),
            }
            arrays: Arrays = {"heads": heads, "tried": tried, "weight": weight}
            return study.hospitals.total(Request("vector_scaling", arrays, expect=expect, phase=self.name))

        best, _, exchanges = fitted(ask, folds + 1, classes)
        return best, exchanges


def _apply(head: Float, point: Float) -> Float:
    """An affine head [C, d + 1] with its logits scaled and shifted."""
    factor, offset = np.split(point, 2)
    scaled = head * factor[:, None]
    scaled[:, -1] += offset
    return np.asarray(scaled)


def _taken(study: Study, plain: Float, scaled: Float, phase: str) -> tuple[str, dict[str, Any]]:
    """The candidate that is taken, by the losses of both on each fold's cases; see `methods.auto.compare`."""
    heads = np.stack([plain, scaled], axis=1).astype(np.float32)
    losses = ArraySpec((2, plain.shape[1]), least=0.0)
    expect = {"losses": losses, "squares": ArraySpec((2,), least=0.0, most=WORST**2)}
    weight = _weights(study.statistics.counts)
    arrays: Arrays = {"heads": heads, "weight": weight}
    sums = study.hospitals.total(
        Request("compare", arrays, expect=expect, phase=phase, check=at_most({"losses": WORST}))
    )
    loss = dict(zip((PLAIN, VECTOR), (sums["losses"] @ weight).tolist(), strict=True))
    return clearly_better(loss, sums["squares"], PLAIN)


METHODS = (Scaled,)
TASKS = {vector_scaling.__name__: vector_scaling}
