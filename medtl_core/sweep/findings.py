"""What the finished runs of a sweep say: a row a run and method, and a summary of the seeds of every cell."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any

from medtl_core.errors import PrivacyError
from medtl_core.evaluation.result import Result
from medtl_core.privacy.ledger_report import balance
from medtl_core.privacy.policy import Policy
from medtl_core.report.summary import MethodSummary, Summary, summarise
from medtl_core.sweep.cells import REFERENCES, Sweep
from medtl_core.sweep.job_queue import Job
from medtl_core.versions import versions

#: Version of the layout of a sweep's `metrics.json`.
SCHEMA = 2
#: One method of one run, as a line of `sweep.csv`.
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Findings:
    """What the finished runs of a sweep say together.

    Attributes:
        sweep: what was asked.
        results: of the finished runs; at least one.
        rows: of theirs, from `rows_of`.
        failed: name of a run -> why it failed.
        of: number of runs asked for.
    """

    sweep: Sweep
    results: tuple[Result, ...]
    rows: tuple[Row, ...]
    failed: Mapping[str, str]
    of: int

    @cached_property
    def cells(self) -> Mapping[tuple[int, float], Summary]:
        """(shots, epsilon) -> the summary over the finished seeds, in order; epsilon is infinite without privacy."""
        groups: dict[tuple[int, float], list[Result]] = {}
        for result in self.results:
            chosen = result.settings
            epsilon = math.inf if chosen["privacy"] == "none" else float(chosen["epsilon"])
            groups.setdefault((int(chosen["shots"]), epsilon), []).append(result)
        return {key: summarise(results) for key, results in sorted(groups.items())}

    @property
    def lines(self) -> Mapping[str, Mapping[float, MethodSummary]]:
        """Name of a row (the method, with its shots where there are several) -> epsilon -> how it did."""
        sweep, lines = self.sweep, {}
        for shots, name in product(sweep.shots, (*(method.name for method in sweep.mechanisms), *REFERENCES)):
            cells = {epsilon: cell.methods for (count, epsilon), cell in self.cells.items() if count == shots}
            line = {epsilon: methods[name] for epsilon, methods in cells.items() if name in methods}
            lines[f"{name}, {shots} shots" if len(sweep.shots) > 1 else name] = line
        return lines

    @property
    def chance(self) -> float:
        """The balanced accuracy that guessing gives."""
        return 1 / len(self.results[0].classes)

    @property
    def broken(self) -> dict[str, str]:
        """Runs that failed, and promises that a ledger says were broken, each with what happened."""
        broken = dict(self.failed)
        for row in self.rows:
            if row["spent"] is not None and row["spent"] > row["epsilon"] * (1 + 1e-9):
                name = f"{row['method']}, epsilon {row['epsilon']:g}, {row['shots']} shots, seed {row['seed']}"
                broken[name] = f"a ledger accounts for epsilon {row['spent']:g}: more than was promised"
        return broken

    @property
    def remarks(self) -> list[str]:
        """What limits the findings: runs that broke or are left, and absent answers."""
        done, remarks = len(self.results), [f"FAILED: {name}: {why}" for name, why in self.broken.items()]
        if absent := sum(len(result.failures) for result in self.results):
            remarks.append(f"{absent} answer(s) of hospitals are missing; the events of each run name them")
        if self.of > done + len(self.failed):
            remarks.append(f"{done} of {self.of} runs are done; the same command goes on")
        return remarks

    def values(self, column: str) -> list[Any]:
        """Returns the different values in one column of the rows, in order."""
        return sorted({row[column] for row in self.rows if row[column] is not None})

    def as_dict(self) -> dict[str, Any]:
        """Returns what `metrics.json` keeps."""
        return {
            "schema": SCHEMA,
            "name": self.sweep.plan.name,
            "data": {**vars(self.results[0].data), "folder": self.sweep.data},
            "chance": self.chance,
            "versions": versions(),
            "cells": [
                {"shots": shots, "epsilon": epsilon, **cell.as_dict()} for (shots, epsilon), cell in self.cells.items()
            ],
            "rows": self.rows,
            "done": len(self.results),
            "of": self.of,
            "failed": self.broken,
        }


def rows_of(job: Job, data: str, result: Result) -> list[Row]:
    """Returns one row a method of a finished run of the data set.

    "sum" is "secure", "open", or "none" without privacy, where "epsilon" (promised), "spent" (the largest that any
    hospital's ledger accounts for), "delta" and "public_cases" are None. A figure that is not defined is None.

    Raises:
        PrivacyError: a ledger is missing or damaged.
    """
    chosen = result.settings
    how = "none" if chosen["privacy"] == "none" else "secure" if chosen["secure-sum"] else "open"
    rows: list[Row] = []
    for name, method in result.methods.items():
        promise: dict[str, Any] = dict.fromkeys(("epsilon", "spent", "delta", "public_cases"))
        if how != "none":
            delta = float(method.facts["delta"])
            promise |= {"epsilon": float(chosen["epsilon"]), "spent": spent(job.folder, name, delta), "delta": delta}
            promise["public_cases"] = int(chosen["public-cases"])
        where = {"data": data, "shots": int(chosen["shots"]), "sum": how, "method": name, "seed": result.seed}
        figures = {key: method.judgement.figures[key] for key in ("balanced_accuracy", "auroc", "worst_site")}
        rows.append({**where, **promise, **figures, "bytes_up": method.cost.bytes_up})
    return rows


def spent(folder: Path, method: str, delta: float) -> float:
    """Returns the largest epsilon at delta that a simulated hospital's ledger of a private method accounts for.

    Every ledger is read whole and its chain of records checked; nothing is taken from the server's word.

    Raises:
        PrivacyError: there is no ledger of the method, or one is damaged.
    """
    books = sorted(folder.glob(f"seed-*/state/*/*/privacy/{method}/ledger.jsonl"))
    if not books:
        raise PrivacyError(f"{folder} holds no ledger of {method}; what it spent is not known")
    return max(balance(book.parent, Policy(delta=delta)).spent for book in books)
