"""A benchmark's runs, one after the other, in this process; see `medtl_core.sweep.job_queue`."""

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from medtl_core.cli.simulate import simulate
from medtl_core.flower.run import RunPlan
from medtl_core.sweep import job_queue as batch
from medtl_core.sweep.job_queue import Job

__all__ = ["ROOT", "Job", "Values", "private_settings", "told", "work_through"]

ROOT = Path(__file__).resolve().parents[1]
Values = dict[str, str | int | float | bool]


def private_settings(epsilon: float, secure: bool) -> Values:
    """Returns the flat settings that make a run private."""
    return {"privacy": "auto", "epsilon": epsilon, "secure-sum": secure}


def work_through(jobs: Sequence[Job], name: str, minutes: float) -> int:
    """Runs what is not done until the budget is spent; returns how many failed."""

    def do(job: Job) -> None:
        simulate(RunPlan(job.settings, 1, os.cpu_count() or 1, False, job.folder, ROOT, name))

    return len(batch.work_through(jobs, do, minutes, partial(print, flush=True)))


def told(failed: int) -> int:
    """Prints how a batch ended and returns its exit code."""
    print(f"{failed} run(s) failed" if failed else "no run failed")
    return int(failed > 0)
