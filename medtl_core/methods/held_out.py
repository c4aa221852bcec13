"""What hospitals sum of their held-out cases beside `evaluate`: figures of groups, and how sure an AUROC is."""

import numpy as np

from medtl_core.clinical.placements import products
from medtl_core.clinical.ranking import class_odds, judged
from medtl_core.clinical.subgroups import told_groups
from medtl_core.evaluation.federated import summarise
from medtl_core.federation.tasks import Arrays, Config, SiteData
from medtl_core.heads.statistics import Float
from medtl_core.values import Released, Scores, Update


def group_scores(site: SiteData, arrays: Arrays, config: Config) -> Released:
    """Evaluation sums [H, G, ...] of heads [H, C, d + 1] on the groups that the setting `groups` states.

    All are zero of a group that the hospital does not tell, for it holds too few cases of it; see
    `clinical.subgroups.told_groups`.
    """
    material = site.test_material
    assert material is not None
    rows = told_groups(material.examples, material.columns, str(config["groups"]))
    sums = []
    for logits in _logits(site, arrays):
        group = np.arange(len(logits))
        each = [
            summarise(Scores(logits[row], site.test_label[row], np.full(row.sum(), site.name), group[row])).arrays
            for row in rows
        ]
        sums.append({name: np.stack([one[name] for one in each]) for name in each[0]})
    return Released(Update({name: np.stack([one[name] for one in sums]) for name in sums[0]}))


def auroc_parts(site: SiteData, arrays: Arrays, config: Config) -> Released:
    """Products of what patients add to the errors of AUROCs of heads [H, C, d + 1]; see `clinical.placements`."""
    classes = judged(tuple(map(str, range(site.classes))))
    odds = np.stack([class_odds(logits)[:, classes] for logits in _logits(site, arrays)])
    inside = site.test_label[:, None] == np.asarray(classes)
    return Released(Update(products(arrays["placed"], odds, inside, site.test_patients)))


def _logits(site: SiteData, arrays: Arrays) -> list[Float]:
    """As `federation.tasks.evaluate` has them."""
    values, heads = site.test_values.astype(np.float64), arrays["heads"].astype(np.float64)
    return [values @ head[:, :-1].T + head[:, -1] for head in heads]


TASKS = {task.__name__: task for task in (group_scores, auroc_parts)}
