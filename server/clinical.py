"""What a study leaves for `clinical.json`, and the scores it keeps where the run says so."""

import io
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from medtl_core.clinical.ranking import Ranking, rankings, summed
from medtl_core.clinical.record import Clinical, Coverage, OperatingPoint, of_scores, of_sums, operating_point
from medtl_core.clinical.subgroups import named_columns, stated_groups
from medtl_core.config import Settings
from medtl_core.errors import ConfigError
from medtl_core.evaluation.federated import contradiction, expected_shapes
from medtl_core.evaluation.scores import select
from medtl_core.federation.hospitals import ArraySpec, Request
from medtl_core.federation.study import Study
from medtl_core.predict.conformal import Conformal
from medtl_core.rng import stream
from medtl_core.store import write_bytes
from medtl_core.values import Array, Update

from .held_out import groups_of, spreads_of
from .testset import Reference
from .verdict import Verdict

#: Name of the file of scores.
SCORES = "scores.npz"
#: Phase of the exchange in which thresholds are set.
PHASE = "operating-points"

Columns = Mapping[str, Array]
Folds = Mapping[str, Mapping[str, Ranking]]


def check(chosen: Settings) -> None:
    """Refuses what would tell more of patients than a run may.

    Raises:
        ConfigError: names the setting.
    """
    private, there = chosen.privacy != "none", chosen.test == "sites"
    for word, refused, why in (
        ("keep-scores", chosen.keep_scores and (private or there), "needs test=server and privacy=none: the score of "
         "a single case leaves no hospital, and beside a private head none is kept"),
        ("operating-points", chosen.operating_points and private, "needs privacy=none: sums of training cases' scores "
         "are not free under privacy; set thresholds on cases of your own"),
        ("operating-points", not 0 <= chosen.operating_points < 1, "is a sensitivity in (0, 1), or 0 = none"),
        ("outliers", chosen.outliers and private, "needs privacy=none: counts of training cases' distances would be a "
         "release of their own, for which no ledger pays"),
        ("outliers", not 0 <= chosen.outliers < 1, "is a share in (0, 1), or 0 = none"),
    ):  # fmt: skip
        if refused:
            raise ConfigError(f"{word} {why}")


def columns_of(chosen: Settings, reference: Reference) -> Columns:
    """Returns the groups of the server's cases, by column.

    Raises:
        ConfigError: the cases have no such column, or none that makes groups; or the task has no classes to set
            thresholds for.
    """
    if chosen.operating_points:
        reference.source.examples.task.tell_classes("operating-points")
    if reference.followed and (chosen.operating_points or chosen.subgroups):
        raise ConfigError("operating-points and subgroups need classes; these cases were followed over time")
    if chosen.subgroups and reference.cases is None:
        stated_groups(chosen.subgroups)
    if not chosen.subgroups or reference.cases is None or reference.cases.material is None:
        return {}
    return named_columns(reference.cases.material.examples, reference.source.columns, chosen.subgroups)


def record(study: Study, verdicts: Mapping[str, Verdict], columns: Columns) -> Clinical:
    """Returns the figures of every method that was judged with one head for all; cases followed over time have none."""
    classes, findings = study.problem.classes, study.problem.multi_label
    if study.problem.followed:
        return Clinical({})
    scored = {name: verdict.scores for name, verdict in verdicts.items() if verdict.scores is not None}
    sums = {name: verdict.sums for name, verdict in verdicts.items() if verdict.sums}
    if scored:
        made = of_scores(scored, classes, columns)
    else:
        made = of_sums(sums, classes, findings=findings, spreads=spreads_of(study, verdicts))
    target, folds = study.settings.operating_points, _folds(study, tuple(verdicts))
    methods = dict(made.methods)
    for name, groups in groups_of(study, verdicts).items():
        methods[name] = replace(methods[name], groups=groups)
    for name in methods:
        methods[name] = replace(methods[name], likely=coverage_of(verdicts[name], len(classes)))
    for name, rows in folds.items():
        if name not in methods:
            continue
        tests = rankings_of(verdicts[name], classes, findings)
        points = {key: operating_point(rows[key], tests[key], target) for key in rows}
        each = methods[name].classes
        methods[name] = replace(
            methods[name], classes={key: replace(row, operating=points.get(key)) for key, row in each.items()}
        )
    return replace(made, methods=methods)


def coverage_of(verdict: Verdict, classes: int) -> dict[str, Coverage]:
    """Returns what the sets of likely classes hold of each site's test cases; nothing where the head promises none."""
    head = verdict.outcome.heads.get("")
    conformal = Conformal.of_facts(head.facts.get("conformal", {}) if head else {}, classes)
    if conformal is None:
        return {}
    if verdict.scores is None:
        every = ((site, sums.arrays) for site, sums in verdict.sums.items())
        told = {site: (one["sums"][0], conformal.held_of_sums(one["positive"], one["negative"])) for site, one in every}
    else:
        site = verdict.scores.site
        parts = {str(name): select(verdict.scores, site == name) for name in np.unique(site)}
        told = {name: (len(part.label), conformal.held_of(part)) for name, part in parts.items()}
    return {name: Coverage(conformal.level, float(cases), *map(float, held)) for name, (cases, held) in told.items()}


def thresholds_of(clinical: Clinical, name: str) -> dict[str, Any]:
    """Returns what a head's manifest says of its thresholds, under "operating"; nothing where none was set."""
    rows = clinical.methods[name].classes if name in clinical.methods else {}
    points = {key: row.operating for key, row in rows.items() if row.operating is not None}
    told = {key: {"target": point.target, "floor": point.floor, **_folds_of(point)} for key, point in points.items()}
    return {"operating": told} if told else {}


def _folds_of(point: OperatingPoint) -> dict[str, float | None]:
    return {"sensitivity": point.folds.sensitivity, "specificity": point.folds.specificity}


def rankings_of(verdict: Verdict, classes: tuple[str, ...], findings: bool) -> Mapping[str, Ranking]:
    """Returns the rankings of the test cases that a verdict was made from."""
    if verdict.scores is not None:
        return rankings(verdict.scores, classes)
    return summed(verdict.sums, classes, findings=findings)


def _folds(study: Study, names: tuple[str, ...]) -> Folds:
    """Rankings of the hospitals' training cases by heads that never saw them, of the methods that leave such heads."""
    if not study.settings.operating_points or study.problem.multi_label:
        return {}
    # A method with cross-validated heads leaves them under this key of the study, [F, C, d + 1] each.
    kept: dict[str, Any] = {name: study.once(f"folds/{name}", lambda: None) for name in names}
    heads = {name: stack for name, stack in kept.items() if stack is not None}
    if not heads:
        return {}
    arrays = {"heads": np.stack(list(heads.values())).astype(np.float32)}
    shapes = expected_shapes(len(study.problem.classes))
    expect = {key: ArraySpec((len(heads), *shape), least=0.0) for key, shape in shapes.items()}
    total = study.hospitals.total(Request("fold_scores", arrays, {}, expect, PHASE, check=contradiction))
    rows = {name: Update({key: array[row] for key, array in total.items()}) for row, name in enumerate(heads)}
    return {name: summed({"": sums}, study.problem.classes) for name, sums in rows.items()}


def keep_scores(out: Path, study: Study, verdicts: Mapping[str, Verdict], columns: Columns) -> None:
    """Writes the scores of the server's cases, `scores.npz`, so that every figure can be computed again.

    It holds `logits NAME` of each method, `label`, `site`, `patient` (numbered by chance), `group COLUMN` of each
    subgroup and, of a multi-label task, `labels`; no identifier, no path, no image.
    """
    scored = {name: verdict.scores for name, verdict in verdicts.items() if verdict.scores is not None}
    if not study.settings.keep_scores or not scored:
        return
    first = next(iter(scored.values()))
    patients, number = np.unique(first.group, return_inverse=True)
    named = stream(study.settings.seed, "patients").permutation(len(patients))[number]
    arrays: dict[str, Any] = {
        "classes": np.asarray(study.problem.classes),
        "label": first.label,
        "site": np.asarray(first.site, np.str_),
        "patient": named,
        **({} if first.labels is None else {"labels": first.labels}),
        **{f"group {name}": column for name, column in columns.items()},
        **{f"logits {name}": scores.logits for name, scores in scored.items()},
    }
    packed = io.BytesIO()
    np.savez_compressed(packed, **arrays)
    write_bytes(out / SCORES, packed.getvalue())
