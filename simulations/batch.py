"""Many runs, one after the other, within a time budget; what is done is never done again."""

import logging
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from medtl_core.errors import MedtlError
from medtl_core.runs import Plan

ROOT = Path(__file__).resolve().parents[1]
Values = dict[str, str | int | float | bool]


@dataclass(frozen=True)
class Job:
    """One run.

    Attributes:
        folder: of the run.
        settings: flat settings, with the seed.
    """

    folder: Path
    settings: Mapping[str, str | int | float | bool]

    @property
    def done(self) -> bool:
        """Whether the run is complete; one that broke off leaves no metrics."""
        return (self.folder / "metrics.json").is_file()


def work_through(jobs: Sequence[Job], name: str, minutes: float) -> int:
    """Runs what is not done until the budget is spent; returns how many failed.

    A failure is told and does not stop the others. Who sat out, and why, is in each run's events.
    """
    from simulations.experiment import simulate

    logging.getLogger("medtl").setLevel(logging.CRITICAL)
    end, failed = time.monotonic() + 60 * minutes, 0
    todo = [job for job in jobs if not job.done]
    for number, job in enumerate(todo):
        if time.monotonic() > end:
            print(f"budget spent: {len(todo) - number} of {len(todo)} runs are left; run again to go on")
            break
        started = time.monotonic()
        shutil.rmtree(job.folder, ignore_errors=True)  # what a broken run left
        try:
            simulate(Plan(job.settings, 1, os.cpu_count() or 1, False, job.folder, ROOT, name), lambda event: None)
            word = f"{time.monotonic() - started:.1f} s"
        except MedtlError as error:
            failed, word = failed + 1, f"FAILED: {error}"
        print(f"[{number + 1}/{len(todo)}] {'/'.join(job.folder.parts[-4:])}: {word}", flush=True)
    return failed


def told(failed: int) -> int:
    """Prints how a batch ended and returns its exit code."""
    print(f"{failed} run(s) failed" if failed else "no run failed")
    return int(failed > 0)
