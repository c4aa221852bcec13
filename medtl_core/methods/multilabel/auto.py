"""The default of a multi-label task: the mean of discriminant and logistic, or one of them where it is clearly better.

One kind is taken for all findings together, by the mean over them of the losses on the same held-out cases: a single
finding may have a handful of cases, too few to choose by.
"""

from typing import Any

import numpy as np

from medtl_core.federation.feature_map import at_most
from medtl_core.federation.hospitals import ArraySpec, Request
from medtl_core.federation.method import Method, Outcome, Share, Study
from medtl_core.federation.tasks import Arrays, Config, SiteData
from medtl_core.heads.crossval import WORST
from medtl_core.heads.statistics import Float
from medtl_core.methods.auto import MEAN, clearly_better
from medtl_core.methods.logistic import USUAL
from medtl_core.methods.multilabel.discriminant import grid
from medtl_core.methods.multilabel.logistic import logistic_grid
from medtl_core.methods.multilabel.model import FindingsHead
from medtl_core.methods.multilabel.solving import fold_odds, log_losses, solved_of, validate_phase
from medtl_core.methods.multilabel.sums import PHASE, labels_of, sides_of, sums_of
from medtl_core.values import Released, Update

#: Label of the exchange in which candidates are compared.
_COMPARE = "label_compare"


def label_compare(site: SiteData, arrays: Arrays, config: Config) -> Released:
    """How far candidates lie apart on a hospital's cases, each judged by the heads made without the case's fold.

    Reads `heads` [F, M, L, d + 1], the log-odds of each at its own temperature, and `weight` [L, 2], of a case without
    and with a finding in the loss. Answers `losses` [M, L, 2], summed, and `squares` [M]: over patients, the squares of
    what the first candidate's weighted loss on all cases of the patient exceeds another's by.
    """
    labels = labels_of(site.material)
    costs, sides = log_losses(fold_odds(site, arrays["heads"]), labels), sides_of(labels)
    apart = np.einsum("nml,nlc,lc->mn", costs[:, :1] - costs, sides, arrays["weight"])
    patient = np.unique(site.patients, return_inverse=True)[1]
    squares = np.array([(np.bincount(patient, weights=row) ** 2).sum() for row in apart])
    return Released(Update({"losses": np.einsum("nml,nlc->mlc", costs, sides), "squares": squares}))


class LabelAuto(Method):
    """Multi-label: mean log-odds of discriminant and logistic, or one of them where it is clearly better."""

    syntax = "auto"

    def outcome(self, study: Study) -> Outcome:
        """See Method: eight exchanges, the last of which says how far the candidates lie apart."""
        logistic, phase = logistic_grid(study, USUAL)
        grids = {"discriminant": grid(sums_of(study)), "logistic": logistic}
        parts = dict(zip(grids, solved_of(study, grids), strict=True))
        heads = {MEAN: np.mean([part.affine for part in parts.values()], axis=0)}
        folds = {MEAN: np.mean([part.without for part in parts.values()], axis=0)}
        heads |= {name: part.affine for name, part in parts.items()}
        folds |= {name: part.without for name, part in parts.items()}
        taken, facts = _taken(study, folds)
        facts = {"chosen": taken, **facts, "parts": {name: part.facts for name, part in parts.items()}}
        head = FindingsHead.of(study, heads[taken], "auto", facts)
        bill = dict.fromkeys((PHASE, phase, validate_phase(grids), _COMPARE), Share())
        return Outcome({"": head}, bill, sum(part.server_cpu for part in parts.values()), facts)


def _taken(study: Study, folds: dict[str, Float]) -> tuple[str, dict[str, Any]]:
    """The candidate that is taken, and by how much each differs from the usual one; see `methods.auto`."""
    counts = sums_of(study).counts[0]
    both = (counts > 0.5).all(axis=1, keepdims=True)
    weight = np.where(both, 0.5 / np.maximum(counts, 1.0), 0.0) / max(int(both.sum()), 1)
    squares = ArraySpec((len(folds),), least=0.0)
    expect = {"losses": ArraySpec((len(folds), *counts.shape), least=0.0), "squares": squares}
    arrays: Arrays = {"heads": np.stack(list(folds.values()), axis=1).astype(np.float32), "weight": weight}
    sums = study.hospitals.total(Request(_COMPARE, arrays, expect=expect, check=at_most({"losses": WORST})))
    loss = dict(zip(folds, np.tensordot(sums["losses"], weight, axes=2).tolist(), strict=True))
    return clearly_better(loss, sums["squares"])


LABEL_METHODS = (LabelAuto,)
TASKS = {_COMPARE: label_compare}
