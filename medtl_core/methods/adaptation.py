"""Adaptation: a classifier for one new hospital, from the federation's and a few labelled cases of its own.

Nothing leaves the hospital and nothing is trained by gradient from scratch: class means and a covariance are updated,
or an affine head is pulled towards the hospital's cases. Classes may be new to the federation.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from medtl_core.errors import DataError
from medtl_core.evaluation.calibration import WORST, log_softmax, temperature
from medtl_core.heads.crossval import fold_of
from medtl_core.heads.linear import to_raw, with_bias
from medtl_core.heads.logistic import class_weights
from medtl_core.heads.statistics import Float
from medtl_core.methods.models.metric import Metric, unit
from medtl_core.methods.personal.pulled import held_out_costs, nearest, pulled
from medtl_core.values import ABSENT, Array, Head

#: Cases the federation's covariance counts for beside the hospital's own scatter; chosen on HAM10000.
COVARIANCE_CASES = 50.0
#: Cases the federation's mean of a class counts for, at most; chosen on HAM10000 by leaving one site out.
MEAN_CASES = 30.0
#: Cases a class from which on the Mahalanobis distance with the hospital's own scatter is used.
MANY = 20.0
#: Pulls towards the federation's head, strongest first.
PULLS = (100.0, 30.0, 10.0, 3.0, 1.0, 0.3, 0.1, 0.03)
#: The pull where none can be chosen.
BLIND = 3.0
#: Patients up to which each is left out alone; more are left out in this many groups.
_ALONE, _GROUPS = 40, 10


@dataclass(frozen=True)
class Support:
    """A hospital's labelled cases: features [n, d], labels [n] as positions in its `classes`, and patients [n]."""

    values: NDArray[np.float32]
    label: NDArray[np.int64]
    patients: Array
    classes: tuple[str, ...]

    @property
    def counts(self) -> Float:
        """Cases of each class, float64 [C]."""
        return np.bincount(self.label, minlength=len(self.classes)).astype(np.float64)

    def take(self, index: NDArray[np.int64] | NDArray[np.bool_]) -> "Support":
        """Returns the cases at `index`."""
        return replace(self, values=self.values[index], label=self.label[index], patients=self.patients[index])


def check_support(support: Support, known: Sequence[str]) -> None:
    """Refuses what cannot be learnt from; `known` are the classes the federation's classifier can give.

    Raises:
        DataError: there is no labelled case, the hospital names fewer than two classes, or a class that the federation
            does not know has no case.
    """
    if not len(support.label):
        raise DataError("the hospital has no labelled training case; label a few of each class in its train split")
    if len(support.classes) < 2:
        raise DataError(f"the hospital names one class only ({support.classes[0]}); a head tells at least two apart")
    for name, count in zip(support.classes, support.counts, strict=True):
        if not count and name not in known:
            raise DataError(
                f"class {name!r} is new to the federation (known: {', '.join(known)}) and has no labelled case in the "
                "train split; label at least one, or take the class out of task.json"
            )


def adapt_metric(metric: Metric, support: Support, *, mean_cases: float = MEAN_CASES) -> Metric:
    """Returns the federation's metric with the hospital's classes.

    A class mean is that of the hospital's own cases and of up to `mean_cases` that the federation's mean stands for; a
    new class, or with `mean_cases` 0 every class, has the hospital's cases alone. From `MANY` cases a class on (median
    over its classes) distances are Mahalanobis's under (nu0 S + own scatter) / (nu0 + n), nu0 = 50; below, whitened
    cases are brought to unit length.

    Raises:
        DataError: see `check_support`.
    """
    known = [name for name, count in zip(metric.classes, metric.counts, strict=True) if count > 0]
    check_support(support, known if mean_cases > 0 else ())
    standard = metric.standardised(support.values)
    rows = np.asarray([metric.classes.index(name) if name in metric.classes else -1 for name in support.classes])
    weight = np.where(rows >= 0, np.minimum(metric.counts[rows], mean_cases), 0.0)
    onehot, counts = np.eye(len(support.classes))[support.label].T, weight + support.counts
    share = np.maximum(counts, 1e-9)[:, None]
    means = (weight[:, None] * metric.means[rows] + onehot @ standard) / share
    directions = (weight[:, None] * metric.directions[rows] + onehot @ unit(standard @ metric.whitening)) / share
    shots = support.counts[support.counts > 0]
    rule = "mahalanobis" if np.median(shots) >= MANY else "unit"
    within = _posterior(metric.within, standard, support) if rule == "mahalanobis" else metric.within
    adapted = replace(
        metric, within=within, means=means, directions=directions, counts=counts, rule=rule, classes=support.classes
    )
    # the federation's factor, carried over to another scale of distances and to class means of fewer cases
    scale = metric.spread / adapted.spread if min(metric.spread, adapted.spread) > 0 else 1.0
    factor = float(metric.temperature * scale * adapted.reliability / metric.reliability)
    facts = {"temperature": factor, "rule": rule, "shots": int(shots.max()), "cases": len(support.label)}
    return replace(adapted, temperature=factor, facts={**metric.facts, **facts})


def adapt_head(head: Head, support: Support) -> Head:
    """Returns W = argmin of the hospital's class-balanced log-loss + pull / 2 ||W - W_federation||^2.

    Features are standardised by the hospital's cases; a class new to the head starts from zero. The pull is chosen by
    leaving patients out one by one.

    Raises:
        DataError: see `check_support`; or the hospital and the head have no class in common.
    """
    known = [name for name, seen in zip(head.classes, head.seen, strict=True) if seen]
    if not set(known) & set(support.classes):
        raise DataError(
            f"the head knows {', '.join(known)}, the hospital {', '.join(support.classes)}: no class in common. "
            "Correct the labels, or adapt a saved `metric`, which takes classes the federation never saw"
        )
    check_support(support, known)
    part = restricted(head, support.classes)
    best, loss = _best_pull(part, support, not set(support.classes) <= set(known))
    affine = _moved(part, support, PULLS[:best])[-1] if best else np.column_stack([part.weight, part.bias])
    pull = PULLS[best - 1] if best else None
    facts = {**head.facts, "pull": pull, "loss": loss, "cases": len(support.label)}
    return Head(affine[:, :-1], affine[:, -1], head.kind, support.classes, head.fingerprint, facts)


def restricted(head: Head, classes: Sequence[str]) -> Head:
    """Returns a head that answers with a hospital's classes; those it does not know are never the answer."""
    rows = np.asarray([head.classes.index(name) if name in head.classes else -1 for name in classes])
    weight = np.where(rows[:, None] >= 0, head.weight[rows], 0.0)
    return replace(head, weight=weight, bias=np.where(rows >= 0, head.bias[rows], ABSENT), classes=tuple(classes))


def _posterior(within: Float, standard: Float, support: Support) -> Float:
    """(nu0 S + scatter of the hospital's cases about their own class means) / (nu0 + degrees of freedom)."""
    onehot = np.eye(len(support.classes))[support.label]
    centres = (onehot.T @ standard) / np.maximum(support.counts, 1.0)[:, None]
    rest = standard - centres[support.label]
    freedom = len(standard) - int((support.counts > 0).sum())
    return np.asarray((COVARIANCE_CASES * within + rest.T @ rest) / (COVARIANCE_CASES + freedom))


def _moved(head: Head, support: Support, pulls: tuple[float, ...]) -> Float:
    """Heads [P, C, d + 1] on raw features, pulled to the cases; a class the head does not know starts from zero.

    Features are standardised by the cases; each variance is drawn towards the mean one, as if by two cases more.
    """
    wide = np.asarray(support.values, np.float64)
    mean, variance = wide.mean(axis=0), wide.var(axis=0)
    scale = np.sqrt((len(wide) * variance + 2.0 * variance.mean()) / (len(wide) + 2.0)) + 1e-6
    seen = head.seen
    start = np.column_stack([head.weight * scale, head.bias + head.weight @ mean])
    start[~seen, :-1], start[~seen, -1] = 0.0, start[seen, -1].mean()
    return to_raw(pulled(start, with_bias(wide, mean, scale), support.label, pulls), mean, scale)


def _best_pull(head: Head, support: Support, new: bool) -> tuple[int, float | None]:
    """How many of `PULLS` to go through, 0 = the federation's head is kept, and the log-loss there in nats.

    Every case is judged by heads made without its patient, down to the standardisation: centred with its own help, a
    few balanced cases would give its label away. The federation's head is left only for a loss lower by a standard
    error than its own at the temperature that suits these cases best. A class of one patient cannot be left out, and
    one class alone tells no border: then the head is kept, or, with a class `new` to it, moved by `BLIND`.
    """
    label, patients = support.label, np.unique(support.patients)
    owners = [len(np.unique(support.patients[label == place])) for place in np.unique(label)]
    if len(owners) < 2 or min(owners) < 2:  # cases of one class do not tell where another begins
        return (PULLS.index(BLIND) + 1 if new else 0), None
    groups = len(patients) if len(patients) <= _ALONE else _GROUPS
    fold, inputs = fold_of(support.patients, label, groups, 0), np.column_stack([support.values, np.ones(len(label))])
    costs = held_out_costs(fold, inputs, label, len(PULLS), lambda out: _moved(head, support.take(fold != out), PULLS))
    weight = class_weights(support.counts)[label] / len(label)
    best = nearest(costs, weight)
    logits = head.logits(support.values)
    federated = np.minimum(-log_softmax(logits * temperature(logits, label))[np.arange(len(label)), label], WORST)
    gain = (federated - costs[best]) * weight * len(label)
    if not new and gain.mean() < gain.std(ddof=1) / np.sqrt(len(gain)):
        return 0, float(federated @ weight)
    return best + 1, float(costs[best] @ weight)
