"""A run of one cell that trains nothing: figures by rule, and ledgers that really account for what is promised."""

import math
from pathlib import Path

from medtl_core.errors import RunError
from medtl_core.federation.private import PrivateMethod, terms_of
from medtl_core.flower.run import RunPlan
from medtl_core.privacy.ledger import Identity, Key, Ledger
from medtl_core.privacy.policy import Policy
from medtl_core.store import write_json

CLASSES = ["normal", "consolidation", "interstitial"]


def accuracy(method: str, epsilon: float, seed: int) -> float:
    """private-mean is at chance up to epsilon 1, everything else is well above; seeds move it a little."""
    jitter = 0.01 * (seed % 3)
    return (0.33 if method == "private-mean" and epsilon <= 1 else 0.6 + 0.05 * math.log2(epsilon or 16)) + jitter


def stored(plan: RunPlan) -> None:
    """Writes what the run of a cell would leave; shots=13 breaks."""
    chosen = plan.settings
    plan.out.mkdir(parents=True)
    if chosen.shots == 13:
        (plan.out / "FAILED").write_text("RunError: only 1 of 5 hospitals answered\n")
        raise RunError("only 1 of 5 hospitals answered")
    private = chosen.privacy != "none"
    folder = plan.out / f"seed-{chosen.seed}"
    folder.mkdir()
    methods = {}
    for method in plan.methods:
        figure = accuracy(method.name, chosen.epsilon if private else 0.0, chosen.seed)
        facts = {}
        if isinstance(method, PrivateMethod):
            terms = terms_of(chosen, 20, len(CLASSES))
            facts = {"epsilon": terms.epsilon, "delta": terms.delta}
            for site in ("north", "south"):
                reserved(folder / "state" / "agreed" / site / "privacy" / method.name, method, plan)
        methods[method.name] = {
            "kind": "federated",
            "figures": {"balanced_accuracy": figure, "auroc": figure + 0.1, "worst_site": None},
            "intervals": {"balanced_accuracy": [figure - 0.05, figure + 0.05]},
            "cost": {"bytes_up": 1000},
            "facts": facts,
        }
    data = {"name": "phantom", "title": "Phantom", "licence": "CC0", "synthetic": True, "notes": []}
    result = {
        "schema": 1, "seed": chosen.seed, "versions": {"medtl": "0.1.0"},
        "settings": chosen.public(), "data": data, "classes": CLASSES, "sites": {"north": 9, "south": 9},
        "test": {"cases": 90}, "methods": methods, "failures": [],
    }  # fmt: skip
    write_json(folder / "result.json", result)
    write_json(plan.out / "metrics.json", {})


def reserved(folder: Path, method: PrivateMethod, plan: RunPlan) -> None:
    """Writes a ledger in which every step of the method's plan is paid for."""
    terms = terms_of(plan.settings, 20, len(CLASSES))
    agreed = method.plan(terms)
    policy = Policy(max_epsilon=terms.epsilon, delta=terms.delta)
    with Ledger(folder, Identity(folder.parents[1].name, "hash"), policy) as ledger:
        for place, step in enumerate(agreed.steps):
            for number in range(1, step.count + 1):
                ledger.reserve(Key("agreed", agreed.digest, place, number, "question"), agreed, step)
