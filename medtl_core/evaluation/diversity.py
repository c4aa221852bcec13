"""How different the members of an ensemble are, and what putting them together gained."""

from collections.abc import Mapping, Sequence
from itertools import combinations
from statistics import fmean
from typing import Any

import numpy as np

from medtl_core.evaluation.calibration import softmax
from medtl_core.evaluation.formulas import Figure, Float
from medtl_core.evaluation.scores import plain
from medtl_core.values import Scores

#: Figures a gain is told of.
FIGURES = ("balanced_accuracy", "auroc")


def member_sums(members: Sequence[Scores]) -> dict[str, Float]:
    """Returns sums over the cases that M members judge, from which `diversity` works; sums of hospitals add.

    Returns:
        float64 arrays `right` (both right), `wrong` (both wrong), `first` (the row right, the column wrong) and
        `different` (other answers) [M, M], `divergence` [1] (Jensen-Shannon, summed, in nats) and `cases` [1].
    """
    answer = np.stack([member.logits.argmax(axis=1) for member in members])
    right = (answer == members[0].label).astype(np.float64)
    return {
        "right": right @ right.T,
        "wrong": (1 - right) @ (1 - right).T,
        "first": right @ (1 - right).T,
        "different": (answer[:, None] != answer[None]).sum(axis=2).astype(np.float64),
        "divergence": np.array([_divergence(members).sum()]),
        "cases": np.array([float(answer.shape[1])]),
    }


def sums_expected(members: int) -> dict[str, tuple[int, ...]]:
    """Returns the shapes of `member_sums`."""
    square, one = (members, members), (1,)
    pairs = dict.fromkeys(("right", "wrong", "first", "different"), square)
    return {**pairs, "divergence": one, "cases": one}


def diversity(sums: Mapping[str, Float]) -> dict[str, Figure]:
    """Returns three figures of how members differ; None where undefined.

    `disagreement`: share of cases two members answer differently, mean over pairs. `q_statistic`: Yule's Q of two
    members being right, mean over the pairs that have one: 1 if they fail on the same cases, 0 if independently, -1 if
    on different ones (Kuncheva and Whitaker, Machine Learning 2003, eq. 4). `jensen_shannon`: entropy of the members'
    mean probability minus their mean entropy, in nats, mean over cases (Lin 1991, equal weights).

    Example:
        >>> one = Scores(np.eye(2), np.array([0, 0]), np.array(["a", "a"]), np.array([0, 1]))
        >>> diversity(member_sums([one, Scores(np.eye(2)[::-1], one.label, one.site, one.group)]))["disagreement"]
        1.0
    """
    cases, pairs = float(sums["cases"][0]), list(combinations(range(len(sums["right"])), 2))
    different = [float(sums["different"][pair]) / cases for pair in pairs if cases]
    return {
        "disagreement": _mean(different),
        "q_statistic": _mean([_yule(sums, pair) for pair in pairs]),
        "jensen_shannon": max(float(sums["divergence"][0]) / cases, 0.0) if cases else None,
    }


def gain(members: Mapping[str, Mapping[str, Figure]], whole: Mapping[str, Figure]) -> dict[str, Any]:
    """Returns what the ensemble has over its best and its mean member, a figure at a time; JSON-able.

    The best member is the best on these very cases: a choice that nobody could have made beforehand.
    """
    gains: dict[str, Any] = {}
    for key in FIGURES:
        known = {name: value for name, row in members.items() if (value := row[key]) is not None}
        reached = whole[key]
        if known and reached is not None:
            best = max(known, key=lambda name: known[name])
            over = {"over_best": reached - known[best], "over_mean": reached - fmean(known.values())}
            gains[key] = {"best_member": best, **over}
    return gains


def remarks(members: Mapping[str, Scores], ensemble: Scores) -> dict[str, Any]:
    """Returns diversity and gain, as facts of an ensemble; empty for a single member."""
    if len(members) < 2:
        return {}
    figures = {name: plain(member, FIGURES) for name, member in members.items()}
    sums = member_sums(list(members.values()))
    return {"diversity": diversity(sums), "gain": gain(figures, plain(ensemble, FIGURES))}


def _divergence(members: Sequence[Scores]) -> Float:
    """Entropy of the members' mean probability minus their mean entropy [n], in nats."""
    from scipy.special import entr

    shares = np.stack([softmax(member.logits) for member in members])
    return np.asarray(entr(shares.mean(axis=0)).sum(axis=1) - entr(shares).sum(axis=2).mean(axis=0))


def _yule(sums: Mapping[str, Float], pair: tuple[int, int]) -> Figure:
    same = float(sums["right"][pair] * sums["wrong"][pair])
    crossed = float(sums["first"][pair] * sums["first"][pair[::-1]])
    return (same - crossed) / (same + crossed) if same + crossed else None


def _mean(values: Sequence[Figure]) -> Figure:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None
