"""Which hospital is a case from? A probe of what a model's answers tell beside the diagnosis.

Hospitals image differently, and class probabilities carry a part of that. Where many are seen, as when a site publishes
its predictions case by case, they may name the hospital. No promise of a private run covers this: the figure is told.
"""

import numpy as np
from numpy.typing import NDArray

from medtl_core.audit.finding import Finding
from medtl_core.audit.membership import Trained
from medtl_core.audit.site import AuditedData, AuditedSite
from medtl_core.evaluation.calibration import log_softmax
from medtl_core.heads.crossval import fold_of
from medtl_core.heads.statistics import Float
from medtl_core.rng import stream

Index = NDArray[np.int64]

#: Folds of cross-validation by patient, patients that every hospital needs of a class, and resamples for the interval.
_FOLDS, _FEWEST, _RESAMPLES = 5, 5, 500


def origin(name: str, data: AuditedData, trained: Trained) -> list[Finding]:
    """Returns how well the hospital of a case is guessed from a head's class probabilities, and from its features.

    No case is judged by a head that has seen its patient. Nothing is returned where there are no two hospitals, or no
    class of which all have enough patients.
    """
    site = data.pooled
    names, place = np.unique(data.where, return_inverse=True)
    cell = _cells(site, place)
    rows = np.flatnonzero(cell >= 0)
    if not len(rows):
        return []
    fold = fold_of(site.data.patients, site.data.label, _FOLDS, site.settings.seed)
    answers = np.zeros((len(place), len(site.problem.classes)))
    for number in range(_FOLDS):
        answers[fold == number] = log_softmax(trained(fold != number))[fold == number]
    known = place[rows], site.data.label[rows], site.owner[rows]
    share, low, high = figures = recognised(answers[rows], *known, seed=site.settings.seed)
    features = recognised(site.data.values[rows].astype(np.float64), *known, seed=site.settings.seed)
    chance = len(np.unique(site.data.label[rows])) / len(np.unique(cell[rows]))
    finding = Finding(
        f"which hospital: {name}",
        f"class probabilities of {len(rows)} cases of {len(names)} hospitals, each class by itself, logistic "
        f"regression, cross-validated by patient; from features themselves {features[0]:.0%}",
        "",
        f"{share:.0%} [{low:.0%}, {high:.0%}], by chance {chance:.0%}",
        "nothing is claimed; they tell hospitals apart" if low > chance else "nothing is claimed",
        numbers={
            "chance": chance,
            "hospitals": names.tolist(),
            "cases": len(rows),
            "answers": figures,
            "features": features,
        },
    )
    return [finding]


def recognised(inputs: Float, place: Index, label: Index, owner: Index, *, seed: int) -> tuple[float, float, float]:
    """Returns how often logistic regression names the hospital of a case it has not seen, and a 95 % interval.

    Every class is learnt and judged by itself, and every hospital counts alike in it: class mixes tell nothing, and
    guesses are right once in as many hospitals as there are. The interval is from resampled patients.

    Args:
        inputs: float [n, k], what is known of each case.
        place: int64 [n], its hospital.
        label: int64 [n], its class; there are several hospitals in each.
        owner: int64 [n], the number of its patient.
        seed: of folds and resamples.
    """
    hit = np.zeros(len(place))
    for kind in np.unique(label):
        rows = np.flatnonzero(label == kind)
        hit[rows] = _named(inputs[rows], place[rows], owner[rows], seed) == place[rows]
    _, cell = np.unique(label * (place.max() + 1) + place, return_inverse=True)
    patients, patient = np.unique(owner, return_inverse=True)
    drawn = stream(seed, "audit", "origin").multinomial(
        len(patients), np.full(len(patients), 1 / len(patients)), _RESAMPLES
    )
    resampled = [_share(hit, cell, weight[patient].astype(np.float64)) for weight in drawn]
    low, high = np.quantile(resampled, [0.025, 0.975])
    return _share(hit, cell, np.ones(len(hit))), float(low), float(high)


def _share(hit: Float, cell: Index, weight: Float) -> float:
    """The mean over cells (a class at a hospital) of the weighted share of hits; empty ones do not count."""
    held = np.bincount(cell, weight)
    hits = np.bincount(cell, weight * hit)
    return float((hits[held > 0] / held[held > 0]).mean())


def _named(inputs: Float, place: Index, owner: Index, seed: int) -> Index:
    """The hospital that cross-validated logistic regression names for each case."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced", max_iter=1000))
    folds = StratifiedGroupKFold(_FOLDS, shuffle=True, random_state=seed)
    return np.asarray(cross_val_predict(model, inputs, place, groups=owner, cv=folds), np.int64)


def _cells(site: AuditedSite, place: Index) -> Index:
    """Which class at which hospital each case is of, int64 [n]; -1 where too few patients are, or no other hospital."""
    cell = site.data.label * (place.max(initial=0) + 1) + place
    known = np.unique(np.stack([cell, site.owner]), axis=1)[0]
    enough = np.unique(known)[np.unique(known, return_counts=True)[1] >= _FEWEST]
    kinds, hospitals = np.unique(enough // (place.max(initial=0) + 1), return_counts=True)
    shared = np.isin(site.data.label, kinds[hospitals > 1]) & np.isin(cell, enough)
    return np.where(shared, cell, -1)
