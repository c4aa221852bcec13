"""What finished runs found, one row a run and method, and the CSV file of all rows."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Any

from medtl_core.errors import PrivacyError
from medtl_core.privacy.ledger_report import balance
from medtl_core.privacy.policy import Policy
from medtl_core.store import read_json, write_text
from medtl_core.sweep.job_queue import Job


@dataclass(frozen=True)
class Row:
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


@dataclass(frozen=True)
class Finished:
    """A finished run.

    Attributes:
        rows: one a method.
        intervals: patient-bootstrap intervals of this run, by method and figure.
        result: the rest of its result: classes, data, hospitals, test cases.
        absent: answers that hospitals did not give.
    """

    rows: tuple[Row, ...]
    intervals: Mapping[str, Mapping[str, Sequence[float]]]
    result: Mapping[str, Any]
    absent: int


def records_of(folder: Path, seed: int) -> dict[str, Any] | None:
    """Returns the result of a run of one seed, or None where it is not finished.

    Raises:
        RunError: it is finished but cannot be read.
    """
    if not (folder / "metrics.json").is_file():
        return None
    found: dict[str, Any] = read_json(folder / f"seed-{seed}" / "result.json")
    return found


def read_job(job: Job, data: str) -> Finished | None:
    """Returns what a run found, or None where it is not finished.

    Raises:
        RunError, PrivacyError: its result is missing, or a ledger is damaged.
    """
    result = records_of(job.folder, job.settings.seed)
    if result is None:
        return None
    methods = result.pop("methods")
    rows = tuple(_row(job.folder, data, result["settings"], name, record) for name, record in methods.items())
    intervals = {name: record.get("intervals", {}) for name, record in methods.items()}
    kept = {key: result[key] for key in ("classes", "data", "sites", "test")}
    return Finished(rows, intervals, kept, len(result.get("failures", ())))


def _row(folder: Path, data: str, chosen: Mapping[str, Any], method: str, record: Mapping[str, Any]) -> Row:
    private, figures = chosen["privacy"] != "none", record["figures"]
    delta = float(record["facts"]["delta"]) if private else None
    return Row(
        data=data,
        shots=int(chosen["shots"]),
        sum=("secure" if chosen["secure-sum"] else "open") if private else "none",
        method=method,
        seed=int(chosen["seed"]),
        epsilon=float(chosen["epsilon"]) if private else None,
        spent=None if delta is None else spent(folder, method, delta),
        delta=delta,
        public_cases=int(chosen["public-cases"]) if private else None,
        balanced_accuracy=figures["balanced_accuracy"],
        auroc=figures["auroc"],
        worst_site=figures["worst_site"],
        bytes_up=int(record["cost"]["bytes_up"]),
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


def write_csv(path: Path, rows: Sequence[Row]) -> None:
    """Writes one line a row, with headings; whole or not at all."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(field.name for field in fields(Row))
    writer.writerows(["" if value is None else value for value in astuple(row)] for row in rows)
    write_text(path, text.getvalue())
