"""The judgement of a multi-label task: each finding by itself, on the cases of which it is known, and their mean."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import fmean

from medtl_core.evaluation.counts import checked
from medtl_core.evaluation.federated import judge_sites
from medtl_core.evaluation.formulas import Figure
from medtl_core.evaluation.judgement import ALL_SITES, Curves, Judgement, SiteJudgement
from medtl_core.evaluation.scores import each_finding, judge
from medtl_core.values import Scores, Update


def judge_findings(scores: Scores, classes: Sequence[str]) -> Judgement:
    """Returns every figure of scored cases, without intervals.

    Raises:
        DataError: see `judge`.
    """
    parts = zip(classes, each_finding(checked(scores)), strict=True)
    return over_labels({name: judge(part) for name, (_, part) in parts})


def judge_finding_sums(updates: Mapping[str, Update], classes: Sequence[str]) -> Judgement:
    """Returns the judgement from each site's sums of its own cases, an array of all findings [L, ...] each."""
    labels = {}
    for row, name in enumerate(classes):
        own = {site: {key: array[row] for key, array in sums.arrays.items()} for site, sums in updates.items()}
        labels[name] = judge_sites({site: Update(arrays) for site, arrays in own.items()}, ("absent", "present"))
    return over_labels(labels)


def over_labels(labels: Mapping[str, Judgement]) -> Judgement:
    """Returns the judgement of a task from those of its findings, in the agreed order.

    A figure is the mean over the findings of which the cases show some that are there and some that are not, so at each
    site too; its cases are those of the finding that is known of most.
    """
    told = [label.figures for label in labels.values() if label.figures["auroc"] is not None]
    none = dict.fromkeys(next(iter(labels.values())).figures)
    sites = {}
    for name in dict.fromkeys(name for label in labels.values() for name in label.by_site):
        rows = [label.by_site[name] for label in labels.values() if name in label.by_site]
        defined = [row for row in rows if row.auroc is not None]
        names = ("balanced_accuracy", "auroc")
        mean = mean_figures([{name: getattr(row, name) for name in names} for row in defined] or [dict.fromkeys(names)])
        sites[name] = SiteJudgement(mean["balanced_accuracy"], mean["auroc"], max(row.n for row in rows))
    known = [row.balanced_accuracy for row in sites.values() if row.balanced_accuracy is not None]
    drawn = {name: label.curves.roc.get(ALL_SITES) for name, label in labels.items() if label.curves}
    return Judgement(
        {**mean_figures(told or [none]), "worst_site": min(known, default=None)},
        sites,
        Curves({name: curve for name, curve in drawn.items() if curve}),
        by_label={name: replace(label, curves=None) for name, label in labels.items()},
    )


def average(judged: Sequence[Judgement]) -> Judgement:
    """Returns the mean of each figure over several hospitals, of each finding's too."""
    labels = {name: [each.by_label[name] for each in judged] for name in judged[0].by_label}
    figures = mean_figures([each.figures for each in judged])
    return Judgement(figures, by_label={name: average(own) for name, own in labels.items()})


def mean_figures(rows: Sequence[Mapping[str, Figure]]) -> dict[str, Figure]:
    """Returns the mean of each figure over the rows that define it."""
    known = {key: [value for row in rows if (value := row[key]) is not None] for key in rows[0]}
    return {key: fmean(values) if values else None for key, values in known.items()}
