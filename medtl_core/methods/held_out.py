"""What hospitals sum of their held-out cases beside `evaluate`: figures of groups, and how sure an AUROC is.

Of affine heads [H, C, d + 1] under the name "heads", or of one model, which comes as `evaluate_model` has it.
"""

import numpy as np

from medtl_core.clinical.placements import products
from medtl_core.clinical.ranking import class_odds, judged
from medtl_core.clinical.subgroups import told_groups
from medtl_core.evaluation.federated import summarise
from medtl_core.evaluation.scores import each_finding, select
from medtl_core.federation.registry import travelled
from medtl_core.federation.tasks import Arrays, Config, SiteData, scored
from medtl_core.values import Array, Released, Scores, Update

#: The array that goes along with what is judged.
_PLACED = "placed"


def group_scores(site: SiteData, arrays: Arrays, config: Config) -> Released:
    """Evaluation sums [H, G, ...] on the groups that the setting `groups` states.

    All are zero of a group that the hospital does not tell, for it holds too few cases of it (see
    `clinical.subgroups.told_groups`); of findings each by the cases of which it is known.
    """
    sums = [_of_groups(site, scores, str(config["groups"])) for scores in _judged(site, arrays, config)]
    return Released(Update({name: np.stack([one[name] for one in sums]) for name in sums[0]}))


def _of_groups(site: SiteData, scores: Scores, wanted: str) -> dict[str, Array]:
    """Sums of one head [G, ...], of findings [G, L, ...]."""
    material = site.test_material
    assert material is not None
    findings = scores.labels is not None
    each = list[list[Update]]()
    for known, part in each_finding(scores) if findings else [(np.arange(len(scores.label)), scores)]:
        rows = told_groups(material.examples.take(known), material.columns, wanted)
        each.append([summarise(select(part, row)) for row in rows])
    stacked = {
        name: np.stack([[one.arrays[name] for one in part] for part in each], axis=1) for name in each[0][0].arrays
    }
    return stacked if findings else {name: array[:, 0] for name, array in stacked.items()}


def auroc_parts(site: SiteData, arrays: Arrays, config: Config) -> Released:
    """Products of what patients add to the errors of AUROCs; see `clinical.placements`."""
    here = {name: array for name, array in arrays.items() if name != _PLACED}
    every = _judged(site, here, config)
    if every[0].labels is not None:
        odds = np.stack([scores.logits for scores in every])
        sides = np.stack([every[0].labels == 1, every[0].labels == 0], axis=2)
    else:
        classes = judged(tuple(map(str, range(site.classes))))
        odds = np.stack([class_odds(scores.logits)[:, classes] for scores in every])
        inside = site.test_label[:, None] == np.asarray(classes)
        sides = np.stack([inside, ~inside], axis=2)
    return Released(Update(products(arrays[_PLACED], odds, sides, site.test_patients)))


def _judged(site: SiteData, arrays: Arrays, config: Config) -> list[Scores]:
    """Scores of the held-out cases by what is judged, as `federation.tasks.evaluate` and `evaluate_model` have them."""
    if "model-kind" in config:
        return [scored(site, travelled(site, arrays, config).logits(site.test_values, site.test_material))]
    values, heads = site.test_values.astype(np.float64), arrays["heads"].astype(np.float64)
    return [scored(site, values @ head[:, :-1].T + head[:, -1]) for head in heads]


TASKS = {task.__name__: task for task in (group_scores, auroc_parts)}
