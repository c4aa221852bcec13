"""What a head and an update disclose without privacy, and what is left of it under privacy."""

import math
from dataclasses import asdict

import numpy as np

from medtl_core.audit.finding import FALSE, STANDS, Finding
from medtl_core.audit.leak import Leak, cosine, from_gradient, from_sums
from medtl_core.audit.membership import Bools, Membership, attack, halves, most_auc
from medtl_core.audit.site import Hospital, Rehearsal, plain_confidences, private_confidences, shift_of
from medtl_core.federation.hospitals import Request
from medtl_core.heads.linear import loss_and_gradient, with_bias
from medtl_core.heads.statistics import TINY, collect
from medtl_core.privacy.accounting import mu_of
from medtl_core.privacy.gate import noised, unscaled
from medtl_core.rng import stream

#: Repetitions of the attack on a noised update, and the cosine from which a patient counts as recovered.
_REPEATS, _RECOVERED = 200, 0.2


def membership_plain(name: str, hospital: Hospital, heads: int) -> Finding:
    """Returns how well members of a head without privacy, one of `audit.site.PLAIN`, can be told."""
    found = attack(lambda row: plain_confidences(name, hospital, row), _halves(hospital, heads))
    return membership_finding(f"membership: {name}", found, None)


def membership_private(part: Rehearsal, hospital: Hospital, heads: int) -> Finding:
    """Returns how well members of a private head can be told, against the most that its claim allows."""
    found = attack(lambda row: private_confidences(part, hospital, row), _halves(hospital, heads))
    return membership_finding(f"membership: {part.method.name}", found, mu_of(hospital.plan(part.method).events))


def membership_finding(test: str, found: Membership, mu: float | None) -> Finding:
    """Returns the finding of an attack; mu is that of the claim, None = nothing is claimed."""
    most = None if mu is None else most_auc(mu)
    held = None if most is None else found.low <= most
    told = "nothing is claimed; members can be told" if found.low > 0.5 else "nothing is claimed"
    return Finding(
        test, f"likelihood ratios of {found.heads} shadow heads on halves of {found.patients} patients",
        "" if most is None else f"AUC <= {most:.3f}",
        f"AUC {found.auc:.3f} [{found.low:.3f}, {found.high:.3f}]; found at 1 % false "
        f"alarms {100 * found.caught:.1f} %, at 0.1 % {100 * found.caught_sharply:.1f} %",
        {None: told, True: STANDS, False: FALSE}[held], held, {}, {**asdict(found), "most": most},
    )  # fmt: skip


def _halves(hospital: Hospital, heads: int) -> Bools:
    return halves(heads, hospital.patients, rng=stream(hospital.settings.seed, "audit", "halves"))


def lonely(hospital: Hospital) -> tuple[Hospital, int]:
    """Returns the hospital with one single case in its rarest class, and that class."""
    label = hospital.site.label
    counts = np.bincount(label, minlength=hospital.site.classes)
    rarest = int(np.argmin(np.where(counts > 0, counts, counts.max() + 1)))
    rows = np.sort(np.concatenate([np.flatnonzero(label != rarest), np.flatnonzero(label == rarest)[:1]]))
    return hospital.keeping(rows), rarest


def leak_plain(hospital: Hospital) -> Finding:
    """Returns what the first gradient and the class sums of an unprotected head tell about a lone patient."""
    alone, rarest = lonely(hospital)
    site = alone.site
    truth, counts = site.values[site.label == rarest][0], np.bincount(site.label, minlength=site.classes)
    mean, scale = site.values.mean(axis=0, dtype=np.float64), site.values.std(axis=0, dtype=np.float64) + TINY
    inputs = with_bias(site.values, mean, scale)
    start, even = np.zeros((site.classes, inputs.shape[1])), np.ones(site.classes)
    slope = loss_and_gradient(start, inputs, site.label, even)[1]
    sums = collect(site.values, site.label, site.classes)
    first = from_gradient(slope, inputs.sum(axis=0))
    leaks = (Leak(first.counts, first.sums * scale + mean), from_sums(sums.counts, sums.sums))
    exact = all(bool((np.rint(leak.counts) == counts).all()) for leak in leaks)
    cosines = [cosine(leak.sums[rarest] - mean, truth - mean) for leak in leaks]
    words = "the attack works: a plain update is not anonymous" if exact and min(cosines) > 0.999 else "not recovered"
    tried = f"one gradient step and class sums of {counts.sum()} cases, one of them alone in its class"
    return Finding(
        "leak: no privacy", tried, "",
        f"class counts {'exact' if exact else 'not exact'}; the lone patient's features, cosine {min(cosines):.6f}",
        words, None, {}, {"counts_exact": exact, "cosines": cosines},
    )  # fmt: skip


def leak_private(part: Rehearsal, hospital: Hospital) -> Finding:
    """Returns what the same attack reads from the class sums or the gradient of a private method.

    The attacker knows everybody else's part, and looks at the row of the lone patient's class; where the sums have no
    rows of classes, at all of them.
    """
    alone, rarest = lonely(hospital)
    plan, requests = alone.plan(part.method), part.run(alone)[0].asked
    request, name = max(
        ((request, name) for request in requests for name in _telling(alone, request)),
        key=lambda pair: alone.sums(pair[0]).update.arrays[pair[1]].size,
    )
    step, without = int(request.config["step"]), alone.keeping(alone.site.label != rarest).sums(request)
    whole = alone.sums(request)
    row = rarest if whole.update.arrays[name].ndim == 2 else slice(None)
    base, shift = without.update.arrays[name][row], shift_of(whole, without)[name][row]
    seen = [unscaled(noised(whole, plan, step, alone.entropy), plan.steps[step])[name] for _ in range(_REPEATS)]
    found = np.array([cosine(one[row] - base, shift) for one in seen])
    mean, sharpest = float(found.mean()), float(np.quantile(found, 0.95))
    chance = 1.645 / math.sqrt(len(shift))  # of a random direction, which tells nothing
    words = f"cosine {mean:.3f} on average, one in twenty above {sharpest:.3f} (by chance {chance:.3f})"
    verdict = "not recovered" if mean < _RECOVERED else "PARTLY RECOVERED: few directions, or a large epsilon"
    tried = f"the same, {_REPEATS} times, on the noised {name!r}; everybody else is known"
    numbers = {"mean_cosine": mean, "quantile_95": sharpest, "by_chance": chance, "directions": len(shift)}
    return Finding(f"leak: {part.method.name}", tried, "", words, verdict, None, {}, numbers)


def _telling(hospital: Hospital, request: Request) -> list[str]:
    """Returns the arrays of an answer that hold features and not only their products."""
    arrays = hospital.sums(request).update.arrays
    names = [name for name in arrays if name not in ("gram", "count", "counts")]
    rows = [name for name in names if arrays[name].ndim == 2]
    return rows or names
