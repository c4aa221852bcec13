"""Federated evaluation: what a hospital counts on its own test cases so that the sum gives the pooled figures.

Scores are counted on bins of equal width in m / (1.5 + |m|), where m is the log-odds of the class: bins of probability
would merge the tails, and the heavy tail of this squash serves calibrated heads and overconfident ones alike. With
2,000 cases the area under the ROC curve is within 2e-4 of the exact one where log-odds spread by 0.3 to 10 nats, and
within 2e-3 from 0.1 to 30 (Phi(m / 10) is off by up to 4e-2 there: its end bins fill up). Calibration, Brier score,
log-loss and everything from the confusion are exact: all sums here add without rounding.
"""

from collections.abc import Mapping, Sequence
from functools import cache

import numpy as np

from medtl_core.evaluation.calibration import log_softmax
from medtl_core.evaluation.concordance import judge_pairs, pairs
from medtl_core.evaluation.counts import BINS, Counts, calibration_bins, case_losses, checked, confusion, judgement
from medtl_core.evaluation.formulas import Float
from medtl_core.evaluation.judgement import Judgement
from medtl_core.evaluation.scores import each_finding
from medtl_core.values import Scores, Update

#: Bins a class.
SCORE_BINS = 512

#: Log-odds in nats at which half of a side's bins are used up.
_HALF = 1.5


def expected_shapes(classes: int, followed: bool = False, multi_label: bool = False) -> dict[str, tuple[int, ...]]:
    """Returns the shape of each float64 array of `summarise`, for the server to expect."""
    if multi_label:
        return {name: (classes, *shape) for name, shape in expected_shapes(2).items()}
    return {
        **({"pairs": (2,)} if followed else {}),
        "positive": (classes, SCORE_BINS),
        "negative": (classes, SCORE_BINS),
        "confusion": (classes, classes),
        "calibration": (3, BINS),
        "sums": (3,),
    }


def summarise(scores: Scores) -> Update:
    """Returns a hospital's evaluation sums.

    Args:
        scores: of the hospital's own held-out cases; may be empty or lack classes.

    Returns:
        float64 arrays `positive` and `negative` [C, 512] (cases of the class, and others, by the class's score),
        `confusion` [C, C] (true class, answer), `calibration` [3, 15] (cases, confidence, correct), `sums` [3]
        (cases, Brier score, log-loss) and, of cases followed over time, `pairs` [2] (see `concordance.pairs`). Of a
        multi-label task, the same of each finding as two classes, [L, ...].

    Raises:
        DataError: the scores cannot be judged.

    Guarantee:
        None. A histogram of few cases tells where each of them scored; a release mechanism has to come on top.
    """
    classes = checked(scores).logits.shape[1]
    if scores.labels is not None:
        each = [summarise(part).arrays for _, part in each_finding(scores)]
        return Update({name: np.stack([arrays[name] for arrays in each]) for name in each[0]})
    place = np.searchsorted(_edges(), log_odds(scores.logits), side="right")
    inside = scores.label[:, None] == np.arange(classes)
    cell = place + SCORE_BINS * np.arange(classes)
    sides = [
        np.bincount(cell[mask], minlength=classes * SCORE_BINS).reshape(classes, SCORE_BINS)
        for mask in (inside, ~inside)
    ]
    arrays = {
        "positive": sides[0],
        "negative": sides[1],
        "confusion": confusion(scores),
        "calibration": calibration_bins(scores),
        "sums": case_losses(scores).sum(axis=1),
        **({} if scores.time is None else {"pairs": pairs(scores)[:, 0]}),
    }
    return Update({name: np.asarray(array, np.float64) for name, array in arrays.items()})


def contradiction(arrays: Mapping[str, Float], cases: int) -> str:
    """Returns why a hospital's evaluation sums, of one head or of many [H, ...], cannot be true, or "".

    How many cases it held out nobody knows but the hospital; `cases`, those it trains on, say nothing of them.
    """
    of_class, total = arrays["confusion"].sum(axis=-1), arrays["sums"][..., 0]
    inside, outside = (arrays[side].sum(axis=-1) for side in ("positive", "negative"))
    binned = arrays["calibration"][..., 0, :].sum(axis=-1)
    concordant, comparable = np.moveaxis(arrays.get("pairs", np.zeros(2)), -1, 0)
    if (concordant <= comparable).all() and all(
        map(
            np.array_equal,
            (inside, outside, of_class.sum(axis=-1), binned),
            (of_class, total[..., None] - of_class, total, total),
        )
    ):
        return ""
    return "its evaluation counts other cases in one sum than in another"


def judge_sites(updates: Mapping[str, Update], classes: Sequence[str]) -> Judgement:
    """Returns the judgement of all sites together from each site's own sums.

    Args:
        updates: site -> what `summarise` gave there, of the shapes expected.
        classes: in the agreed order.

    Example:
        >>> site = Scores(np.eye(2), np.array([0, 1]), np.array(["a", "a"]), np.array([0, 1]))
        >>> judge_sites({"a": summarise(site)}, ["no", "yes"]).figures["auroc"]
        1.0
    """
    followed = any("pairs" in update.arrays for update in updates.values())
    empty = Update({name: np.zeros(shape) for name, shape in expected_shapes(len(classes), followed).items()})
    sites = [updates[name] for name in sorted(updates)] or [empty]
    everyone = sum(sites[1:], start=sites[0])
    if followed:
        cases = {name: int(sums.arrays["sums"][0]) for name, sums in updates.items()}
        return judge_pairs(everyone.arrays["pairs"], {name: s.arrays["pairs"] for name, s in updates.items()}, cases)
    return judgement(_counts(everyone), {name: _counts(sums) for name, sums in updates.items()})


def log_odds(logits: Float) -> Float:
    """Returns each class's logit minus the log-sum-exp of the others [n, C]: the log-odds of its probability."""
    logs = log_softmax(logits)
    rows, top = np.arange(len(logs)), logs.argmax(axis=1)
    others = np.asarray(logits, np.float64).copy()
    others[rows, top] = -np.inf  # the likeliest class's complement, summed directly: 1 - p would round to nothing
    second = others.max(axis=1, keepdims=True)
    rest = second[:, 0] + np.log(np.exp(others - second).sum(axis=1))
    logs[rows, top] = -np.inf
    odds = logs - np.log1p(-np.exp(logs))
    odds[rows, top] = logits[rows, top] - rest
    return np.asarray(odds)


def lower_edges() -> Float:
    """Returns the least log-odds of each bin of `summarise`; of the first one -inf."""
    return np.asarray([-np.inf, *_edges()])


@cache
def _edges() -> Float:
    """Inner edges of the bins on the log-odds."""
    squashed = 2.0 * np.arange(1, SCORE_BINS) / SCORE_BINS - 1.0
    return np.asarray(_HALF * squashed / (1.0 - np.abs(squashed)))


def _counts(update: Update) -> Counts:
    """The counts that a hospital's sums, or several hospitals' together, stand for."""
    arrays = update.arrays
    sides = zip(arrays["positive"][:, :, None], arrays["negative"][:, :, None], strict=True)
    table = arrays["confusion"][:, :, None]
    return Counts(
        list(sides)[1 if len(table) == 2 else 0 :],
        (np.diagonal(arrays["confusion"])[:, None], table.sum(axis=1), table.sum(axis=0)),
        arrays["sums"][:, None],
        arrays["calibration"],
        arrays["confusion"],
        binned=True,
    )
