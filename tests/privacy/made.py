"""Plans, keys, ledgers and tables for tests."""

from pathlib import Path

import numpy as np

from medtl_core.privacy.accounting import mu_for
from medtl_core.privacy.ledger import Identity, Key, Ledger
from medtl_core.privacy.plan import Plan, Step, Terms
from medtl_core.privacy.policy import Policy

TERMS = Terms(4.0, 1e-5, hospitals=3, colluders=1, cases=20, width=6, classes=3, secure=False)
SITE = Identity("north", "f" * 64)


def plan(rounds: int = 4, terms: Terms = TERMS, task: str = "sums") -> Plan:
    """A plan of `rounds` equal releases that spends its promise exactly."""
    multiplier = rounds**0.5 / mu_for(terms.epsilon, terms.delta)
    return Plan("private-made", terms, (Step(task, {"sum": multiplier}, {"sum": 1.0}, rounds),))


def key(number: int = 1, question: str = "q", made: Plan | None = None) -> Key:
    return Key("agreement", (made or plan()).digest, 0, number, question)


def ledger(folder: Path, policy: Policy | None = None, identity: Identity = SITE) -> Ledger:
    return Ledger(folder / "privacy", identity, policy or Policy())


def write_tables(folder: Path, *names: str, patients: int = 40) -> None:
    """Hospitals' tables, NAME.csv, and the server's test.csv: two numbers tell two classes apart."""
    rng = np.random.default_rng(4)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "task.json").write_text('{"name": "label", "classes": ["0", "1"]}', encoding="utf-8")
    for first, name in enumerate((*names, "test"), start=1):
        rows = ["label,patient_id,site,split,a,b"]
        for number in range(patients):
            values = rng.normal(2.0 * (number % 2) - 1.0, 1.0, 2)
            split = "test" if name == "test" else "train"
            rows.append(f"{number % 2},patient-{first}{number:03d},{name},{split},{values[0]:.6f},{values[1]:.6f}")
        (folder / f"{name}.csv").write_text("\n".join(rows), encoding="utf-8")


def write_table(path: Path, hospitals: int, patients: int) -> None:
    """One table to be shared out among simulated hospitals, with 60 cases to test on: three classes, four columns."""
    rng = np.random.default_rng(5)
    rows = ["label,patient_id,site,split,a,b,c,d"]
    for number in range(hospitals * patients + 60):
        values = 2.0 * np.eye(4)[number % 3] + rng.normal(0.0, 1.0, 4)
        split = "test" if number < 60 else "train"
        rows.append(f"{number % 3},p{number},s,{split}," + ",".join(f"{value:.4f}" for value in values))
    path.write_text("\n".join(rows), encoding="utf-8")
