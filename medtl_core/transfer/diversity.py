"""How different the members of an ensemble are, and what putting them together gained."""

from collections.abc import Mapping, Sequence
from itertools import combinations
from statistics import fmean
from typing import Any

import numpy as np

from medtl_core.calibrate import log_softmax
from medtl_core.counts import Figure, Float
from medtl_core.errors import DataError
from medtl_core.metrics import judge
from medtl_core.values import Scores

#: Figures a gain is told of.
FIGURES = ("balanced_accuracy", "auroc")


def disagreement(first: Scores, other: Scores) -> Figure:
    """Returns the share of cases two members answer differently, in [0, 1]; None without cases.

    Example:
        >>> import numpy as np
        >>> one = Scores(np.eye(2), np.array([0, 0]), np.array(["a", "a"]), np.array([0, 1]))
        >>> other = Scores(np.eye(2)[::-1], one.label, one.site, one.group)
        >>> disagreement(one, other)
        1.0
    """
    if not len(first.label):
        return None
    return float((_answer(first) != _answer(other)).mean())


def q_statistic(first: Scores, other: Scores) -> Figure:
    """Returns Yule's Q of two members being right, in [-1, 1]; None where it is undefined.

    (both right x both wrong - one right x other right) / (their sum): 1 if they fail on the same cases, 0 if their
    failures are independent, -1 if they fail on different ones (Kuncheva and Whitaker, Machine Learning 2003, eq. 4).
    """
    one, two = (_answer(member) == first.label for member in (first, other))
    same = float((one & two).sum()) * float((~one & ~two).sum())
    crossed = float((one & ~two).sum()) * float((~one & two).sum())
    return (same - crossed) / (same + crossed) if same + crossed else None


def jensen_shannon(members: Sequence[Scores]) -> Figure:
    """Returns the members' Jensen-Shannon divergence in nats, mean over the cases; None without cases.

    Entropy of the members' mean probability minus their mean entropy (Lin 1991, equal weights): 0 if all say the same.
    """
    if not len(members[0].label):
        return None
    logs = np.stack([log_softmax(member.logits) for member in members])
    mean = np.exp(logs).mean(axis=0)
    own = -(np.exp(logs) * logs).sum(axis=2).mean(axis=0)
    logged = np.log(mean, out=np.zeros_like(mean), where=mean > 0)
    return float(max((-(mean * logged).sum(axis=1) - own).mean(), 0.0))


def diversity(members: Mapping[str, Scores]) -> dict[str, Figure]:
    """Returns `disagreement` and `q_statistic` (means over pairs) and `jensen_shannon` of members on the same cases.

    Raises:
        DataError: there are fewer than two members.
    """
    if len(members) < 2:
        raise DataError("diversity is between members; an ensemble of one has none")
    pairs = list(combinations(members.values(), 2))
    return {
        "disagreement": _mean([disagreement(*pair) for pair in pairs]),
        "q_statistic": _mean([q_statistic(*pair) for pair in pairs]),
        "jensen_shannon": jensen_shannon(list(members.values())),
    }


def gain(members: Mapping[str, Scores], ensemble: Scores) -> dict[str, Any]:
    """Returns what the ensemble has over its best and its mean member, a figure at a time; JSON-able.

    The best member is the best on these very cases: a choice that nobody could have made beforehand.
    """
    figures = {name: judge(member).as_dict()["figures"] for name, member in members.items()}
    whole = judge(ensemble).as_dict()["figures"]
    found: dict[str, Any] = {}
    for key in FIGURES:
        known = {name: row[key] for name, row in figures.items() if row[key] is not None}
        if known and whole[key] is not None:
            best = max(known, key=lambda name: known[name])
            over = {"best": whole[key] - known[best], "mean": whole[key] - fmean(known.values())}
            found[key] = {"best_member": best, "over_best": over["best"], "over_mean": over["mean"]}
    return found


def remarks(members: Mapping[str, Scores], ensemble: Scores) -> dict[str, Any]:
    """Returns diversity and gain, as facts of an ensemble; empty for a single member."""
    if len(members) < 2:
        return {}
    return {"diversity": diversity(members), "gain": gain(members, ensemble)}


def _answer(scores: Scores) -> Float:
    return np.asarray(scores.logits.argmax(axis=1))


def _mean(values: Sequence[Figure]) -> Figure:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None
