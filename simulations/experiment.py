"""An experiment: one scenario under several seeds, in this process, with the real server and client apps."""

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from client.app import app as client_app
from client.site import open_site
from medtl_core.config import Settings, settings
from medtl_core.data.leak import check_leaks
from medtl_core.data.shared import shared_parts, shared_source
from medtl_core.evaluation.result import Result
from medtl_core.events import Events
from medtl_core.flower.grid import run_local
from medtl_core.report.page import render
from medtl_core.report.summary import summarise
from medtl_core.runs import Plan, Run, create_run
from server.app import app as server_app

Progress = Callable[[Mapping[str, Any]], None]


def simulate(plan: Plan, progress: Progress) -> dict[str, Any]:
    """Runs the plan and returns its metrics; the run folder holds results, heads, metrics and the report.

    Raises:
        MedtlError: anything a user can mend; the run folder then says FAILED and holds no half-written file.
    """
    chosen = settings(plan.settings)
    with create_run(plan.out) as run:
        run.begin({"name": plan.name, "seeds": plan.seeds, "workers": plan.workers, "settings": chosen.public()})
        events = Events(run.events_path, progress)
        results = []
        for number in range(plan.seeds):
            seeded = chosen.replace(seed=chosen.seed + number)
            results.append(_repetition(seeded, plan, run, events))
            events.emit("seed", seed=seeded.seed, done=number + 1, of=plan.seeds)
        summary = summarise(results, plan.name)
        metrics = summary.as_dict()
        run.finish(metrics, render(summary, results))
    return metrics


def _repetition(seeded: Settings, plan: Plan, run: Run, events: Events) -> Result:
    """One seed: the server app writes its result into the run folder, as it would on any other road."""
    folder = run.seed_folder(seeded.seed)
    count = _hospitals(seeded)
    _forget_others(seeded.of_site())
    run_local(
        server_app,
        client_app,
        node_configs=[{"partition-id": index, "num-partitions": count} for index in range(count)],
        run_config=seeded.replace(out=str(folder), state=str(folder / "state")).public(),
        workers=plan.workers,
        wire=plan.wire,
        listener=lambda event: events.emit(**{"seed": seeded.seed, **event}),
    )
    return Result.read(folder / "result.json")


@lru_cache(maxsize=1)
def _forget_others(mine: Settings) -> None:
    """Lets go of opened hospitals when another run begins: a sweep of many settings would pile up their cases.

    Runs that differ only in what no hospital sees go on sharing them, since the last key is remembered.
    """
    del mine
    open_site.cache_clear()


def _hospitals(seeded: Settings) -> int:
    """How many hospitals the partition gives; wrong or leaking data are refused here, before anything starts."""
    source, parts = shared_source(seeded), shared_parts(seeded)
    check_leaks(source.examples, parts.sides())
    return len(parts.sites)
