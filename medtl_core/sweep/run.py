"""`medtl sweep privacy`: accuracy against epsilon, as one experiment that goes on where it stopped.

The folder holds `config.json` (what is swept), `sweep.csv`, `metrics.json`, `report.html`, and below secure/, open/ and
free/ one ordinary run folder a cell. Tables are written from what is finished, whenever the command ends.
"""

import csv
import fcntl
import io
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from medtl_core.errors import RunError
from medtl_core.evaluation.result import Result
from medtl_core.flower.run import RunPlan
from medtl_core.run_folder import FAILED
from medtl_core.store import read_json, write_json, write_text
from medtl_core.sweep.cells import Sweep, jobs
from medtl_core.sweep.findings import Findings, rows_of
from medtl_core.sweep.job_queue import Job, work_through
from medtl_core.sweep.page import render


def carry_out(sweep: Sweep, run: Callable[[RunPlan], object], minutes: float, say: Callable[[str], None]) -> Findings:
    """Works through a sweep's cells and returns what all finished ones say; it also lies in `metrics.json`.

    Cells that are done in its folder stay; `run` carries out the plan of one cell, `say` takes a line for each. After
    so many `minutes` no further cell starts; 0 = only the tables of what is there.

    Raises:
        ConfigError, DataError: a cell's settings or data cannot be used; all are looked at before the first run.
        PrivacyError: a ledger of a finished cell is missing or damaged.
        RunError: the folder holds something else or is in use, or no cell has ever finished.
    """
    todo = list(jobs(sweep))

    def do(job: Job) -> None:
        run(replace(sweep.plan, settings=job.settings, seeds=1, out=job.folder))

    with claimed(sweep) as out:
        failed = work_through(todo, do, minutes, say)
        done = [job for job in todo if job.done]
        results = [Result.read(job.folder / f"seed-{job.settings.seed}" / "result.json") for job in done]
        rows = [row for job, result in zip(done, results, strict=True) for row in rows_of(job, sweep.data, result)]
        failed = {job.name: why for job in todo if (why := _failure(job))} | failed
        if not rows:
            why = next(iter(failed.values()), "the time budget was spent before the first ended")
            raise RunError(f"no cell of the sweep in {out} has finished: {why}")
        findings = Findings(sweep, tuple(results), tuple(rows), failed, len(todo))
        table = io.StringIO()
        writer = csv.DictWriter(table, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_text(out / "sweep.csv", table.getvalue())
        write_json(out / "metrics.json", findings.as_dict())
        write_text(out / "report.html", render(findings))
    return findings


def _failure(job: Job) -> str:
    """Why a cell broke in an earlier call; one that was stopped by a person did not."""
    marker = job.folder / FAILED
    text = "" if job.done or not marker.is_file() else marker.read_text(encoding="utf-8")
    return "" if text.startswith("KeyboardInterrupt") else " ".join(text.split())


@contextmanager
def claimed(sweep: Sweep) -> Iterator[Path]:
    """Holds the sweep's folder for this process; it is new, empty, or of the same sweep.

    Raises:
        RunError: it is not, or another process works in it.
    """
    out, asked = sweep.plan.out, sweep.identity
    _check_folder(out, asked)
    try:
        out.mkdir(parents=True, exist_ok=True)
        lock = (out / ".lock").open("w")
    except OSError as error:
        raise RunError(f"the folder {out} cannot be written ({error.strerror}); choose another with --out") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise RunError(f"another sweep is at work in {out}; wait for it, or choose another folder") from error
        _check_folder(out, asked)
        if not (out / "config.json").is_file():
            write_json(out / "config.json", asked)
        yield out


def _check_folder(out: Path, asked: Mapping[str, Any]) -> None:
    if (out / "config.json").is_file():
        stored = read_json(out / "config.json")
        if stored != asked:
            there, here = ({**record, **record.get("settings", {}), "settings": ""} for record in (stored, asked))
            differing = (
                f"{key}: {there.get(key)} there, {here[key]} here" for key in here if there.get(key) != here[key]
            )
            first = next(differing, "another version")
            raise RunError(f"{out} holds another run ({first}); choose a new or an empty folder with --out")
    elif out.is_dir() and any(not path.name.startswith(".") for path in out.iterdir()):
        raise RunError(f"the folder {out} holds something else; choose a new or an empty one with --out")
