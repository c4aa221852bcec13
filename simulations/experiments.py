"""What the experiments share: the data sets' folder, the command line, runs that are done once, and what they left."""

import argparse
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from medtl_core.cli.plan import is_done
from medtl_core.cli.simulate import simulate
from medtl_core.config import Settings, settings
from medtl_core.evaluation.result import MethodResult, Result
from medtl_core.federation.model import Classifier
from medtl_core.flower.run import RunPlan
from medtl_core.sweep import job_queue
from medtl_core.sweep.job_queue import Job

ROOT = Path(__file__).resolve().parents[1]
Values = dict[str, str | int | float | bool]


def options(doc: str | None, out: str, what: Sequence[str] = ()) -> argparse.ArgumentParser:
    """Returns the command line of an experiment whose runs are kept in `runs/OUT`."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    if what:
        parser.add_argument("what", choices=what)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data", help="folder of the data sets")
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / out, help="where runs are kept")
    parser.add_argument("--minutes", type=float, default=600.0, help="time budget")
    return parser


def where(data: Path, name: str) -> Values:
    """Returns the settings that name a catalogued data set in the folder of the data sets."""
    return {"data": name, "data-path": str((data / name).absolute())}


def carry_out(parser: argparse.ArgumentParser, chosen: argparse.Namespace, jobs: Iterable[Job], name: str) -> int:
    """Runs what is not done, one after the other, until the time budget is spent; returns the exit code."""
    todo = list(jobs)
    paths = dict.fromkeys(Path(job.settings.data_path) for job in todo)
    missing = [path.name for path in paths if not path.exists()]
    if missing:
        parser.error(f"{chosen.data} does not hold {', '.join(missing)}; name the folder of the data sets with --data")
    return work_through(todo, name, chosen.minutes)


def work_through(jobs: Sequence[Job], name: str, minutes: float) -> int:
    """Runs jobs in this process, prints how they ended and returns the exit code; see `sweep.job_queue`."""

    def do(job: Job) -> None:
        simulate(RunPlan(job.settings, 1, os.cpu_count() or 1, False, job.folder, ROOT, name))

    failed = job_queue.work_through(jobs, do, minutes, partial(print, flush=True))
    print(f"{len(failed)} run(s) failed" if failed else "no run failed")
    return int(bool(failed))


def run_once(
    values: Settings | Mapping[str, Any], out: Path, name: str, *, seeds: int = 1, workers: int | None = None
) -> None:
    """Runs settings into a folder unless exactly they are done there; what a broken run left is removed first."""
    chosen = values if isinstance(values, Settings) else settings(values)
    plan = RunPlan(chosen, seeds, workers or os.cpu_count() or 1, False, out, ROOT, name)
    if not is_done(plan):
        shutil.rmtree(out, ignore_errors=True)
        simulate(plan)


def records(run: Path) -> dict[str, dict[int, MethodResult]]:
    """Returns what a finished run found: method -> seed -> how it did; nothing of an unfinished one."""
    found: dict[str, dict[int, MethodResult]] = {}
    for file in sorted(run.glob("seed-*/result.json")) if (run / "metrics.json").is_file() else ():
        result = Result.read(file)
        for method, record in result.methods.items():
            found.setdefault(method, {})[result.seed] = record
    return found


def load_classifier(path: Path) -> Classifier:
    """Returns a saved head or model."""
    from medtl_core.federation.registry import unpack
    from medtl_core.predict.saved import is_model, load_head, load_packed

    return unpack(*load_packed(path)) if is_model(path) else load_head(path)
