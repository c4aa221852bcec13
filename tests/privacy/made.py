"""Plans, keys, ledgers and public pictures for tests."""

from pathlib import Path

import numpy as np
from PIL import Image

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


def write_public(folder: Path) -> None:
    """A few public pictures, from which a map takes its scale and directions."""
    rng = np.random.default_rng(0)
    for number in range(12):
        (folder / f"class{number % 2}").mkdir(parents=True, exist_ok=True)
        pixels = np.cumsum(rng.integers(0, 12, (40, 40, 3)), axis=number % 2).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"class{number % 2}" / f"{number}.png")
