"""What finished runs of a sweep gave, one row a run and method, and the CSV file of all rows."""

import csv
import io
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path

from medtl_core.errors import PrivacyError
from medtl_core.evaluation.result import Result
from medtl_core.privacy.ledger_report import balance
from medtl_core.privacy.policy import Policy
from medtl_core.store import write_text
from medtl_core.sweep.job_queue import Job


@dataclass(frozen=True)
class SweepRow:
    """One method of one run.

    Attributes:
        data: name of the set.
        shots: labelled cases of each hospital.
        sum: "secure", "open", or "none" without privacy.
        method: its name.
        seed: of the run.
        epsilon: promised; None without privacy.
        spent: the largest epsilon that any hospital's ledger accounts for.
        delta: of both.
        public_cases: patients that every hospital is publicly known to have.
        balanced_accuracy, auroc, worst_site: figures on the server's test cases; None = not defined.
        bytes_up: sent by a hospital.
    """

    data: str
    shots: int
    sum: str
    method: str
    seed: int
    epsilon: float | None
    spent: float | None
    delta: float | None
    public_cases: int | None
    balanced_accuracy: float | None
    auroc: float | None
    worst_site: float | None
    bytes_up: int

    @property
    def overspent(self) -> bool:
        """Whether a ledger accounts for more than was promised; it never may."""
        return self.spent is not None and self.spent > (self.epsilon or 0.0) * (1 + 1e-9)


@dataclass(frozen=True)
class FinishedRun:
    """A finished run: its result, and one row a method."""

    result: Result
    rows: tuple[SweepRow, ...]


def result_of(folder: Path, seed: int) -> Result | None:
    """Returns the result of a run of one seed, or None where it is not finished.

    Raises:
        RunError: it is finished but cannot be read.
    """
    return Result.read(folder / f"seed-{seed}" / "result.json") if (folder / "metrics.json").is_file() else None


def read_job(job: Job, data: str) -> FinishedRun | None:
    """Returns what a run of the data set gave, or None where it is not finished.

    Raises:
        RunError, PrivacyError: its result is missing, or a ledger is damaged.
    """
    result = result_of(job.folder, job.settings.seed)
    if result is None:
        return None
    return FinishedRun(result, tuple(_row(job.folder, data, result, method) for method in result.methods))


def _row(folder: Path, data: str, result: Result, name: str) -> SweepRow:
    chosen, method = result.settings, result.methods[name]
    private, figures = chosen["privacy"] != "none", method.judgement.figures
    delta = float(method.facts["delta"]) if private else None
    return SweepRow(
        data=data,
        shots=int(chosen["shots"]),
        sum=("secure" if chosen["secure-sum"] else "open") if private else "none",
        method=name,
        seed=result.seed,
        epsilon=float(chosen["epsilon"]) if private else None,
        spent=None if delta is None else spent(folder, name, delta),
        delta=delta,
        public_cases=int(chosen["public-cases"]) if private else None,
        balanced_accuracy=figures["balanced_accuracy"],
        auroc=figures["auroc"],
        worst_site=figures["worst_site"],
        bytes_up=method.cost.bytes_up,
    )


def spent(folder: Path, method: str, delta: float) -> float:
    """Returns the epsilon that the simulated hospitals' ledgers account for, the largest of all hospitals.

    Every ledger is read whole and its chain of records checked; nothing is taken from the server's word.

    Args:
        folder: of a finished run of one seed.
        method: private.
        delta: at which to count.

    Raises:
        PrivacyError: there is no ledger of the method, or one is damaged.
    """
    books = sorted(folder.glob(f"seed-*/state/*/*/privacy/{method}/ledger.jsonl"))
    if not books:
        raise PrivacyError(f"{folder} holds no ledger of {method}; what it spent is not known")
    return max(balance(book.parent, Policy(delta=delta)).spent for book in books)


def write_csv(path: Path, rows: Sequence[SweepRow]) -> None:
    """Writes one line a row, with headings; whole or not at all."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(field.name for field in fields(SweepRow))
    writer.writerows(["" if value is None else value for value in astuple(row)] for row in rows)
    write_text(path, text.getvalue())
