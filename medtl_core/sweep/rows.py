"""What finished runs of a sweep gave, one row a run and method, and the CSV file of all rows."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medtl_core.errors import PrivacyError
from medtl_core.evaluation.result import MethodResult, Result
from medtl_core.privacy.ledger_report import balance
from medtl_core.privacy.policy import Policy
from medtl_core.store import write_text
from medtl_core.sweep.job_queue import Job

#: Figures that a sweep looks at, on the server's test cases; None where not defined.
FIGURES = ("balanced_accuracy", "auroc", "worst_site")


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
        outcome: how the method did.
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
    outcome: MethodResult

    def as_dict(self) -> dict[str, Any]:
        """Returns the columns of `sweep.csv`."""
        named = {key: value for key, value in vars(self).items() if key != "outcome"}
        figures = {key: self.outcome.judgement.figures[key] for key in FIGURES}
        return {**named, **figures, "bytes_up": self.outcome.cost.bytes_up}


def result_of(job: Job) -> Result | None:
    """Returns the result of a run of one seed, or None where it is not finished.

    Raises:
        RunError: it is finished but cannot be read.
    """
    return Result.read(job.folder / f"seed-{job.settings.seed}" / "result.json") if job.done else None


def rows_of(job: Job, data: str, result: Result) -> list[SweepRow]:
    """Returns one row a method of a finished run of the data set.

    Raises:
        PrivacyError: a ledger is missing or damaged.
    """
    chosen = result.settings
    private = chosen["privacy"] != "none"
    how = ("secure" if chosen["secure-sum"] else "open") if private else "none"
    rows = []
    for name, method in result.methods.items():
        delta = float(method.facts["delta"]) if private else None
        used = None if delta is None else spent(job.folder, name, delta)
        epsilon, public = (float(chosen["epsilon"]), int(chosen["public-cases"])) if private else (None, None)
        shots = int(chosen["shots"])
        rows.append(SweepRow(data, shots, how, name, result.seed, epsilon, used, delta, public, method))
    return rows


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
    """Writes one line a row, of which there is one at least, with headings; whole or not at all."""
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0].as_dict(), lineterminator="\n")
    writer.writeheader()
    writer.writerows(row.as_dict() for row in rows)
    write_text(path, text.getvalue())
