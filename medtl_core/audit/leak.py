"""What an unprotected update tells: class counts exactly, and a lone patient's features.

A positive control. It shows why a plain update is not anonymous, and that the same attack fails on a noised one.
"""

import math

import numpy as np

from medtl_core.audit.canary import shift_of
from medtl_core.audit.finding import Finding
from medtl_core.audit.site import AuditedSite, gated
from medtl_core.federation.hospitals import Request
from medtl_core.federation.private import PrivateMethod
from medtl_core.heads.linear import loss_and_gradient, with_bias
from medtl_core.heads.statistics import TINY, Float, collect

#: Repetitions of the attack on a noised update, and the mean cosine from which a patient counts as recovered.
_REPEATS, _RECOVERED = 200, 0.2


def from_gradient(gradient: Float, total: Float) -> tuple[Float, Float]:
    """Reads each class's number of cases [C] and sum of inputs [C, d] from the first gradient of a softmax head.

    The head starts at zero, so every class has probability 1/C, and row c of the summed gradient is S/C - S_c, with S
    the sum over all inputs and S_c over those of class c; its last column, of the constant input, is n/C - n_c. Where a
    class has one case, the sum is that patient's own input.

    Args:
        gradient: float64 [C, d + 1], summed over the cases, the constant input last.
        total: float64 [d + 1], S and n; a run's moments tell them to the server.

    Example:
        >>> inputs, onehot = np.array([[2.0, 1.0], [4.0, 1.0]]), np.eye(2)
        >>> counts, sums = from_gradient((1 / 2 - onehot).T @ inputs, inputs.sum(axis=0))
        >>> counts.tolist(), sums.tolist()
        ([1.0, 1.0], [[2.0], [4.0]])
    """
    sums = total / len(gradient) - gradient
    return sums[:, -1], sums[:, :-1]


def cosine(guess: Float, truth: Float) -> float:
    """Returns the cosine of two vectors; 0 where one has no length.

    Example:
        >>> round(cosine(np.array([1.0, 1.0]), np.array([2.0, 0.0])), 4)
        0.7071
    """
    length = float(np.linalg.norm(guess) * np.linalg.norm(truth))
    return float(guess.ravel() @ truth.ravel()) / length if length else 0.0


def lonely(site: AuditedSite) -> tuple[AuditedSite, int]:
    """Returns the hospital with one single case in its rarest class, and that class."""
    label = site.data.label
    counts = np.bincount(label, minlength=site.data.classes)
    rarest = int(np.argmin(np.where(counts > 0, counts, counts.max() + 1)))
    rows = np.sort(np.concatenate([np.flatnonzero(label != rarest), np.flatnonzero(label == rarest)[:1]]))
    return site.keeping(rows), rarest


def leak_plain(site: AuditedSite) -> Finding:
    """Returns what the first gradient and the class sums of an unprotected head tell about a lone patient."""
    alone, rarest = lonely(site)
    data = alone.data
    truth, counts = data.values[data.label == rarest][0], np.bincount(data.label, minlength=data.classes)
    mean, scale = data.values.mean(axis=0, dtype=np.float64), data.values.std(axis=0, dtype=np.float64) + TINY
    inputs = with_bias(data.values, mean, scale)
    start = np.zeros((data.classes, inputs.shape[1]))
    slope = loss_and_gradient(start, inputs, data.label, np.ones(data.classes))[1]
    told, standardised = from_gradient(slope, inputs.sum(axis=0))
    sums = collect(data.values, data.label, data.classes)
    exact = all(bool((np.rint(guess) == counts).all()) for guess in (told, sums.counts))
    guesses = (standardised[rarest] * scale, sums.sums[rarest] - mean)
    cosines = [cosine(guess, truth - mean) for guess in guesses]
    verdict = "the attack works: a plain update is not anonymous" if exact and min(cosines) > 0.999 else "not recovered"
    tried = f"one gradient step and class sums of {counts.sum()} cases, one of them alone in its class"
    words = f"class counts {'exact' if exact else 'not exact'}; the lone patient's features, cosine {min(cosines):.6f}"
    return Finding("leak: no privacy", tried, "", words, verdict, None, {}, {"counts_exact": exact, "cosines": cosines})


def leak_private(method: PrivateMethod, site: AuditedSite) -> Finding:
    """Returns what the same attack reads from the class sums or the gradient of a private method.

    The attacker knows everybody else's part, and looks at the row of the lone patient's class; where the sums have no
    rows of classes, at all of them.
    """
    alone, rarest = lonely(site)
    plan, (requests, _) = alone.plan(method), alone.run(method)
    request, name = max(
        ((request, name) for request in requests for name in _telling_names(alone, request)),
        key=lambda pair: alone.sums(pair[0]).update.arrays[pair[1]].size,
    )
    sums, without = alone.sums(request), alone.keeping(alone.data.label != rarest).sums(request)
    row = rarest if sums.update.arrays[name].ndim == 2 else slice(None)
    base, shift = without.update.arrays[name][row], shift_of(sums, without)[name][row]
    step = int(request.config["step"])
    cosines = [cosine(gated(sums, plan, step, alone.entropy)[name][row] - base, shift) for _ in range(_REPEATS)]
    mean, sharpest = float(np.mean(cosines)), float(np.quantile(cosines, 0.95))
    chance = 1.645 / math.sqrt(len(shift))  # of a random direction, which tells nothing
    words = f"cosine {mean:.3f} on average, one in twenty above {sharpest:.3f} (by chance {chance:.3f})"
    verdict = "not recovered" if mean < _RECOVERED else "PARTLY RECOVERED: few directions, or a large epsilon"
    tried = f"the same, {_REPEATS} times, on the noised {name!r}; everybody else is known"
    numbers = {"mean_cosine": mean, "quantile_95": sharpest, "by_chance": chance, "directions": len(shift)}
    return Finding(f"leak: {method.name}", tried, "", words, verdict, None, {}, numbers)


def _telling_names(site: AuditedSite, request: Request) -> list[str]:
    """Returns the arrays of an answer that hold features and not only their products."""
    arrays = site.sums(request).update.arrays
    names = [name for name in arrays if name not in ("gram", "count", "counts")]
    return [name for name in names if arrays[name].ndim == 2] or names
