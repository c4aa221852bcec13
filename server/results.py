"""What a study leaves on disk: one result.json and the heads, each whole or not at all."""

import logging
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from medtl_core.clinical.record import CLINICAL
from medtl_core.errors import MedtlError, RunError
from medtl_core.evaluation.result import Cost, DataSource, MethodResult, Result
from medtl_core.features.spec import feature_facts
from medtl_core.federation.model import Classifier
from medtl_core.federation.study import Study
from medtl_core.predict.answer import unseen
from medtl_core.predict.outliers import Outliers
from medtl_core.predict.saved import save_head, save_model
from medtl_core.recipes.contamination import contamination
from medtl_core.store import file_names, write_json
from medtl_core.values import Head
from medtl_core.versions import versions

from . import outliers
from .clinical import Columns, keep_scores, record, thresholds_of
from .held_out import with_intervals
from .testset import Reference
from .usual import usual
from .verdict import Verdict

_LOG = logging.getLogger("medtl")


def write(out: Path, study: Study, verdicts: Mapping[str, Verdict], reference: Reference, columns: Columns) -> None:
    """Writes the heads, `clinical.json` and then `result.json` into `out`; the last file marks the study as complete.

    Raises:
        RunError: some heads could not be saved; everything else was.
    """
    features = {
        **feature_facts(study.settings, study.problem.views),
        "columns": list(reference.columns),
        "modality": study.problem.modality,
    }
    heads = {
        f"{name}@{site}" if site else name: head
        for name, verdict in verdicts.items()
        for site, head in verdict.outcome.heads.items()
    }
    files = file_names(heads)
    clinical, far, common = record(study, verdicts, columns), outliers.outliers(study), usual(study)

    def fault(name: str) -> str:
        facts = {"features": features, **thresholds_of(clinical, name), **(common if name in verdicts else {})}
        try:
            _save(heads[name], out / "heads", files[name], facts, far if name in verdicts else None)
        except MedtlError as error:
            return str(error)
        return ""

    with ThreadPoolExecutor(8) as pool:  # to disk at the same time: one by one they are most of a small study's wait
        lost = [*filter(None, pool.map(fault, heads))]
    if clinical.methods:
        write_json(out / CLINICAL, clinical.as_dict())
    keep_scores(out, study, verdicts, columns)
    write_json(out / "result.json", result(study, with_intervals(verdicts, clinical), reference).as_dict())
    if lost:
        raise RunError(f"{len(lost)} of {len(heads)} heads could not be saved, all figures were; the first: {lost[0]}")


def _save(classifier: Classifier, folder: Path, name: str, more: Mapping[str, Any], far: Outliers | None) -> None:
    """Saves a classifier with what another machine needs to make its features, to adapt it or to use it."""
    facts = {**classifier.facts, **more}
    if isinstance(classifier, Head):
        save_head(replace(classifier, facts=facts), folder, name, far)
    else:
        save_model(replace(classifier.pack(), facts=facts), classifier.kind, folder, name)


def result(study: Study, verdicts: Mapping[str, Verdict], reference: Reference) -> Result:
    """Returns the record of the study: figures, curves, costs, failures and what it ran on."""
    cases, entry, hospitals = reference.cases, reference.source.entry, study.hospitals
    costs, lacking = hospitals.costs, _lacking(study, verdicts)
    if lacking:
        _LOG.warning("%s", lacking)
    return Result(
        study.settings.seed,
        study.settings.public(),
        versions(),
        DataSource(
            entry.name,
            entry.title,
            entry.licence,
            entry.synthetic,
            (*reference.source.notes, *filter(None, [lacking])),
            contamination(study.settings, entry),
        ),
        study.problem.classes,
        hospitals.weights,
        {
            name: MethodResult(
                verdict.kind, verdict.judgement, _cost(verdict, costs, len(hospitals.weights)), verdict.outcome.facts
            )
            for name, verdict in verdicts.items()
        },
        study.problem.fingerprint,
        study.problem.width,
        _judged(verdicts) if cases is None else len(cases.label),
        () if cases is None else tuple(sorted(set(cases.site.tolist()))),
        tuple(hospitals.exchanges),
        tuple(hospitals.failures),
    )


def _lacking(study: Study, verdicts: Mapping[str, Verdict]) -> str:
    """Says which classes no hospital has a training case of, by what common heads know of theirs; "" = none."""
    heads = [verdict.outcome.heads[""] for verdict in verdicts.values() if "" in verdict.outcome.heads]
    names = ", ".join(dict.fromkeys(name for head in heads for name in unseen(head)))
    if study.problem.multi_label and names:
        return f"Of {names} all training cases of all hospitals are with it or all without: heads cannot tell."
    return names and f"No hospital has a training case of {names}: common heads never answer so, and miss its cases."


def _judged(verdicts: Mapping[str, Verdict]) -> int:
    """How many cases the hospitals judged on, by what they told of themselves."""
    rows = (verdict.judgement.by_site.values() for verdict in verdicts.values())
    return max((sum(row.n for row in sites) for sites in rows), default=0)


def _cost(verdict: Verdict, costs: Mapping[str, Cost], hospitals: int) -> Cost:
    """What the method would have cost alone: its share of every phase it needs; bytes are per hospital."""
    hospitals, outcome = max(hospitals, 1), verdict.outcome
    shares = [share.of(costs.get(phase, Cost()), hospitals) for phase, share in outcome.bill.items()]
    cost = sum(shares, start=Cost(cpu_seconds=outcome.server_cpu))
    return replace(cost, bytes_up=round(cost.bytes_up / hospitals), bytes_down=round(cost.bytes_down / hospitals))
