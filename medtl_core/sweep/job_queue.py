"""Many runs, one after the other, within a time budget; what is done is never done again."""

import logging
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from medtl_core.config import Settings
from medtl_core.runtime import quiet


@dataclass(frozen=True)
class Job:
    """One run: its folder, and its settings with the seed."""

    folder: Path
    settings: Settings

    @property
    def done(self) -> bool:
        """Whether the run is complete; one that broke off leaves no metrics."""
        return (self.folder / "metrics.json").is_file()

    @property
    def name(self) -> str:
        """The last parts of its folder, which tell it from the others."""
        return "/".join(self.folder.parts[-4:])


def work_through(
    jobs: Sequence[Job], do: Callable[[Job], object], minutes: float, tell: Callable[[str], None]
) -> dict[str, str]:
    """Runs what is not done, for so many minutes; returns the failed jobs' names, and why each failed.

    A failure is told and does not stop the others, whatever it is: one cell of many may meet a case that its method
    cannot bear. What a broken run left in its folder is removed before it runs again.
    """
    end, failed = time.monotonic() + 60 * minutes, {}
    todo = [job for job in jobs if not job.done]
    for number, job in enumerate(todo):
        if time.monotonic() >= end:
            tell(f"budget spent: {len(todo) - number} of {len(todo)} runs are left; run again to go on")
            break
        started = time.monotonic()
        shutil.rmtree(job.folder, ignore_errors=True)
        try:
            with quiet("medtl", logging.CRITICAL):  # the hospitals' remarks are in each run's events
                do(job)
            word = f"{time.monotonic() - started:.1f} s"
        except Exception as error:  # it is named, in the line and in what is returned
            failed[job.name] = f"{type(error).__name__}: {' '.join(str(error).split())}"
            word = f"FAILED: {failed[job.name]}"
        tell(f"[{number + 1}/{len(todo)}] {job.name}: {word}")
    return failed
