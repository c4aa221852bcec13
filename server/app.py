"""The ServerApp: agree with the hospitals, obtain the heads, judge them, write the results."""

import logging
import os
from pathlib import Path

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from medtl_core.config import Settings, settings
from medtl_core.errors import ConfigError
from medtl_core.events import Events
from medtl_core.federation.outcome import Problem
from medtl_core.federation.registry import check_effect, chosen_methods
from medtl_core.federation.study import Study
from medtl_core.fingerprint import agreement
from medtl_core.flower.exchange import ExchangeTerms, GridHospitals
from medtl_core.privacy.identity import PEERS
from medtl_core.privacy.witnesses import Witnesses
from medtl_core.runtime import one_thread
from medtl_core.values import MULTI_LABEL

from . import outliers
from .clinical import check, columns_of
from .results import write
from .testset import open_reference
from .verdict import judge_all

app = ServerApp()
_LOG = logging.getLogger("medtl")


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Runs one study; what it found lies in the settings' `out` folder."""
    one_thread()
    chosen = settings(context.run_config)
    chosen.check_promise()
    check(chosen)
    if not getattr(grid, "settled", False):  # of `flwr run`: the command line has looked at its own words
        _tell_idle(chosen)
    methods = chosen_methods(chosen)
    out = Path(chosen.out) if chosen.out else None
    events = Events(out / "events.jsonl" if out else None, getattr(grid, "listener", None))
    reference = open_reference(chosen, workers=getattr(grid, "workers", None) or os.cpu_count() or 1)
    methods, columns = reference.fitting(methods), columns_of(chosen, reference)
    task, spec = reference.source.examples.task, reference.spec
    agreed = agreement(chosen, task.agreed, spec.fingerprint)
    state = Path(chosen.state) if chosen.state else None
    remembers = state and (chosen.privacy != "none" or (state / PEERS).is_file())
    terms = ExchangeTerms(agreed, chosen.sites, chosen.quorum, chosen.deadline, reference.columns)
    hospitals = GridHospitals(grid, terms, events, Witnesses(state if remembers else None, agreed))
    hospitals.join()
    entry = reference.source.entry
    problem = Problem(
        task.classes, spec.fingerprint, spec.groups, entry.views, entry.modality, reference.followed,
        task.kind == MULTI_LABEL,
    )  # fmt: skip
    study = Study(hospitals, problem, chosen, methods)
    outliers.check(study)
    verdicts = judge_all(study, reference.cases)
    if out:
        write(out, study, verdicts, reference, columns)


def _tell_idle(chosen: Settings) -> None:
    """Says in the run's log which settings nothing reads: here nobody knows what was typed for this one run."""
    usual = settings({}).public()
    for word in (word for word, value in chosen.public().items() if value != usual[word]):
        try:
            check_effect([word], chosen)
        except ConfigError as error:
            _LOG.warning("%s", error)
