"""What a study leaves on disk: one result.json and the heads, whole or not at all."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from medtl_core.federation.hospitals import Cost
from medtl_core.federation.model import Classifier, Model
from medtl_core.federation.saved import save_head, save_model
from medtl_core.federation.study import Study
from medtl_core.store import write_json
from medtl_core.values import Head
from medtl_core.versions import versions

from .testset import Reference
from .verdict import Verdict

#: Version of the result's layout.
SCHEMA = 1


def write(out: Path, study: Study, verdicts: Mapping[str, Verdict], reference: Reference) -> None:
    """Writes the heads and then `result.json` into folder `out`; the last file marks the study as complete."""
    reading = study.settings.of_features(study.problem.views)
    for name, verdict in verdicts.items():
        for site, head in verdict.heads.items():
            _save(_told(head, reading), out / "heads", f"{name}@{site}" if site else name)
    write_json(out / "result.json", result(study, verdicts, reference))


def _told(classifier: Classifier, reading: Mapping[str, Any]) -> Classifier:
    """The classifier with what another machine needs to make its features, for `medtl adapt`."""
    facts = {**classifier.facts, "features": reading}
    return replace(classifier, facts=facts) if isinstance(classifier, Head | Model) else classifier  # type: ignore[type-var]


def _save(classifier: Classifier, folder: Path, name: str) -> None:
    if isinstance(classifier, Head):
        save_head(classifier, folder, name)
    elif isinstance(classifier, Model):
        save_model(classifier.pack(), classifier.kind, folder, name)
    else:
        raise TypeError(f"{name}: a classifier must be a Head or a Model, not {type(classifier).__name__}")


def result(study: Study, verdicts: Mapping[str, Verdict], reference: Reference) -> dict[str, Any]:
    """Returns the study as JSON-able values: figures, curves, costs, failures and what it ran on."""
    cases = reference.cases
    hospitals = study.hospitals
    return {
        "schema": SCHEMA,
        "seed": study.settings.seed,
        "settings": study.settings.public(),
        "versions": versions(),
        "data": {
            "name": reference.source.entry.name,
            "title": reference.source.entry.title,
            "licence": reference.source.entry.licence,
            "synthetic": reference.source.entry.synthetic,
            "notes": list(reference.source.notes),
        },
        "classes": list(study.problem.classes),
        "features": {"fingerprint": study.problem.fingerprint, "width": study.problem.width},
        "sites": dict(hospitals.weights),
        "test": {
            "cases": 0 if cases is None else len(cases.label),
            "sites": [] if cases is None else sorted(set(cases.site.tolist())),
        },
        "methods": {name: _method(verdict, study) for name, verdict in verdicts.items()},
        "phases": [dict(row) for row in hospitals.history],
        "failures": [{"site": one.site, "code": one.code, "text": one.text} for one in hospitals.failures],
    }


def _method(verdict: Verdict, study: Study) -> dict[str, Any]:
    return {
        "kind": verdict.kind,
        "figures": dict(verdict.figures),
        "intervals": {name: list(pair) for name, pair in verdict.intervals.items()},
        "by_site": {site: dict(figures) for site, figures in verdict.by_site.items()},
        "curves": dict(verdict.curves),
        "cost": _cost(verdict, study),
        "facts": dict(verdict.facts),
    }


def _cost(verdict: Verdict, study: Study) -> dict[str, float]:
    """What the method would have cost alone: its share of every phase it needs; bytes are per hospital."""
    hospitals = max(len(study.hospitals.weights), 1)
    costs = study.hospitals.costs
    cost = sum((share.of(costs.get(phase, Cost()), hospitals) for phase, share in verdict.bill.items()), start=Cost())
    return {
        "bytes_up": round(cost.bytes_up / hospitals),
        "bytes_down": round(cost.bytes_down / hospitals),
        "rounds": cost.rounds,
        "cpu_seconds": cost.cpu_seconds + verdict.server_cpu,
        "wall_seconds": cost.wall_seconds,
    }
