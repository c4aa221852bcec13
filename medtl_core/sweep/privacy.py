"""`medtl sweep privacy`: accuracy against epsilon, as one experiment that goes on where it stopped.

The folder holds `config.json` (what is swept), `sweep.csv`, `metrics.json`, `report.html`, and below secure/, open/ and
free/ one ordinary run folder a cell. Tables are written from what is finished, whenever the command ends.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from medtl_core.errors import RunError
from medtl_core.flower.run import Plan
from medtl_core.report.sweep import render
from medtl_core.run_folder import FAILED
from medtl_core.store import write_json, write_text
from medtl_core.sweep.cells import Sweep, cells, job_of
from medtl_core.sweep.claim import claimed, identity
from medtl_core.sweep.findings import Singles, lines, overspent, sentences
from medtl_core.sweep.job_queue import Job, work_through
from medtl_core.sweep.rows import Finished, Row, read_job, write_csv
from medtl_core.versions import versions


def carry_out(
    sweep: Sweep, run: Callable[[Plan], object], minutes: float, tell: Callable[[str], None]
) -> dict[str, Any]:
    """Works through a sweep's cells and returns what all finished ones say, JSON-able; it also lies in `metrics.json`.

    Args:
        sweep: what to run; cells that are done in its folder stay.
        run: carries out the plan of one cell.
        minutes: after which no further cell starts; 0 = only the tables of what is there.
        tell: takes a line for every cell.

    Raises:
        ConfigError, DataError: a cell's settings or data cannot be used; all are looked at before the first run.
        RunError: the folder holds something else or is in use, or no cell has ever finished.
    """
    jobs = [job_of(sweep, cell) for cell in cells(sweep)]

    def do(job: Job) -> None:
        run(replace(sweep.plan, settings=job.settings, seeds=1, out=job.folder))

    with claimed(sweep):
        failed = work_through(jobs, do, minutes, tell)
        finished = [found for job in jobs if (found := read_job(job, sweep.data)) is not None]
        failed = {job.name: why for job in jobs if (why := _failure(job))} | failed
        metrics = summarised(sweep, finished, failed, len(jobs))
        write_csv(sweep.plan.out / "sweep.csv", [row for one in finished for row in one.rows])
        write_json(sweep.plan.out / "metrics.json", metrics)
        write_text(sweep.plan.out / "report.html", render(metrics))
    return metrics


def summarised(sweep: Sweep, finished: Sequence[Finished], failed: Mapping[str, str], cells_: int) -> dict[str, Any]:
    """Returns the finished cells as one record: see `report.sweep` for what is made of it.

    Raises:
        RunError: none has finished.
    """
    if not finished:
        why = next(iter(failed.values()), "the time budget was spent before the first ended")
        raise RunError(f"no cell of the sweep in {sweep.plan.out} has finished: {why}")
    result, rows = finished[0].result, [row for one in finished for row in one.rows]
    chance = 1 / len(result["classes"])
    found = lines(rows, chance, _singles(finished))
    return {
        "schema": 1,
        "name": sweep.plan.name,
        "data": result["data"] | {"folder": sweep.data},
        "classes": result["classes"],
        "chance": chance,
        "hospitals": len(result["sites"]),
        "test_cases": result["test"]["cases"],
        "shots": list(sweep.shots),
        "epsilons": list(sweep.epsilons),
        "seeds": sorted({row.seed for row in rows}),
        "delta": sorted({row.delta for row in rows if row.delta is not None}),
        "public_cases": {str(shots): _public_cases(rows, shots) for shots in sweep.shots},
        "settings": identity(sweep)["settings"],
        "versions": versions(),
        "lines": found,
        "sentences": list(sentences(found, chance)),
        "done": len(finished),
        "of": cells_,
        "failed": {**failed, **_overspent(rows)},
        "absent": sum(one.absent for one in finished),
    }


def _public_cases(rows: Sequence[Row], shots: int) -> list[int]:
    return sorted({row.public_cases for row in rows if row.shots == shots and row.public_cases is not None})


def _singles(finished: Sequence[Finished]) -> Singles:
    """Bootstrap intervals of every run; they are used where a point has one seed."""
    return {
        (row.shots, row.sum, row.method, row.epsilon): one.intervals[row.method] for one in finished for row in one.rows
    }


def _overspent(rows: Sequence[Row]) -> dict[str, str]:
    return {
        f"{row.method}, epsilon {row.epsilon:g}, {row.shots} shots, seed {row.seed}": (
            f"a ledger accounts for epsilon {row.spent:g}: more than was promised"
        )
        for row in overspent(rows)
    }


def _failure(job: Job) -> str:
    """Why a cell broke in an earlier call; one that was stopped by a person did not."""
    marker = job.folder / FAILED
    text = "" if job.done or not marker.is_file() else marker.read_text(encoding="utf-8")
    return "" if text.startswith("KeyboardInterrupt") else " ".join(text.split())
