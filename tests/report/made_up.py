"""Made-up results with the schema of `result.json`: two seeds, seven methods, three sites."""

from typing import Any

import numpy as np

CLASSES = ["akiec", "bcc", "bkl", "df", "mel", "nv", "vasc"]
SITES = {"rosendahl": 203, "vidir_modern": 168, "vidir_molemax": 36}
HOSPITALS = {f"rosendahl-{i}": 90 for i in range(1, 5)} | {f"vidir_modern-{i}": 90 for i in range(1, 5)}
QUALITY = {
    "local": 0.31, "nearest-mean": 0.54, "ridge": 0.58, "discriminant": 0.62, "fedavg-20": 0.587, "auto": 0.618,
    "pooled-logistic": 0.571,
}  # fmt: skip
ROUNDS = {"local": 0, "fedavg-20": 20, "pooled-logistic": 0, "auto": 24}


def results(seeds: int = 2, data: str = "ham10000_sites") -> list[dict[str, Any]]:
    """Returns results of the seeds 0, 1, ..."""
    return [result(seed, data) for seed in range(seeds)]


def result(seed: int, data: str = "ham10000_sites") -> dict[str, Any]:
    """Returns one result; figures jitter with the seed."""
    rng = np.random.default_rng(seed)
    return {
        "schema": 1,
        "seed": seed,
        "settings": {
            "data": data, "data-path": "/secret/place/ham10000_sites", "sites": 8, "shots": 90, "partition": "natural",
            "backbone": "lite0", "features": "rich", "out": "", "seed": seed, "quorum": 0.5,
        },
        "versions": {"python": "3.11.7", "medtl": "0.1.0", "torch": "2.15.0", "platform": "Linux-x86_64"},
        "data": {
            "name": data, "title": "HAM10000 by site" if data != "phantom" else "Phantom", "licence": "CC BY-NC 4.0",
            "synthetic": data == "phantom", "notes": ["One image a lesion."],
        },
        "classes": CLASSES,
        "sites": dict(HOSPITALS),
        "test": {"cases": sum(SITES.values()), "sites": list(SITES)},
        "methods": {name: method(name, quality, rng) for name, quality in QUALITY.items()},
        "phases": phases(rng),
        "failures": [{"site": "rosendahl-2", "code": "deadline", "text": "no answer within 600 s"}] * (seed == 1),
    }  # fmt: skip


def method(name: str, quality: float, rng: np.random.Generator) -> dict[str, Any]:
    """Returns one method's record."""
    accuracy = quality + rng.normal(0, 0.008)
    auroc = 0.5 + 0.5 * accuracy**0.45 + rng.normal(0, 0.004) - 0.01
    by_site = {
        site: {"balanced_accuracy": accuracy + shift, "auroc": min(auroc + shift / 3, 0.99), "n": SITES[site]}
        for site, shift in zip(SITES, (0.03, -0.02, -0.09), strict=True)
    }
    if name == "nearest-mean":
        by_site["vidir_molemax"] = {"balanced_accuracy": None, "auroc": None, "n": 36}
    rounds = ROUNDS.get(name, 1)
    return {
        "kind": "head",
        "figures": {
            "balanced_accuracy": accuracy, "auroc": auroc, "auprc": accuracy + 0.03, "sensitivity": accuracy,
            "specificity": 0.93, "ece": 0.15 - accuracy / 8, "brier": 0.9 - accuracy / 2,
            "worst_site": accuracy - 0.09 if name != "nearest-mean" else None,
        },
        "intervals": {
            "balanced_accuracy": [accuracy - 0.05, accuracy + 0.05], "auroc": [auroc - 0.02, min(auroc + 0.02, 1.0)],
        },
        "by_site": by_site,
        "curves": {
            "roc": {site: roc(row["auroc"], rng) for site, row in by_site.items()} | {"all": roc(auroc, rng)},
            "reliability": reliability(rng),
        },
        "cost": {
            "bytes_up": 26_000 * rounds, "bytes_down": 26_000 * max(rounds - 1, 0), "rounds": rounds,
            "cpu_seconds": 0.02 + 0.03 * rounds, "wall_seconds": 0.05 + 0.04 * rounds,
        },
        "facts": {},
    }  # fmt: skip


def roc(auroc: float | None, rng: np.random.Generator) -> list[list[float]]:
    """Returns a stepped curve with about the area asked for."""
    if auroc is None:
        return [[], []]
    fpr = np.sort(np.concatenate([[0.0, 1.0], rng.random(60)]))
    tpr = np.maximum.accumulate(np.clip(fpr ** ((1 - auroc) / auroc) + rng.normal(0, 0.015, 62), 0, 1))
    tpr[0], tpr[-1] = 0.0, 1.0
    return [fpr.tolist(), tpr.tolist()]


def reliability(rng: np.random.Generator) -> list[list[float]]:
    """Returns fifteen bins, the lowest ones empty, of a model that is a little too sure of itself."""
    middles = (np.arange(15) + 0.5) / 15
    accuracy = np.clip(middles - 0.06 + rng.normal(0, 0.03, 15), 0, 1)
    counts = np.r_[0, 0, np.linspace(6, 60, 13).round()]
    return [middles.tolist(), accuracy.tolist(), counts.tolist()]


def phases(rng: np.random.Generator) -> list[dict[str, Any]]:
    """Returns the ledger of exchanges."""
    plan = [("join", 1, 900, 300), ("statistics", 1, 980_000, 2_000), ("cross-validate", 2, 60_000, 700_000)]
    plan += [("fedavg", 4, 209_000, 209_000), ("scaffold", 3, 418_000, 418_000)]
    return [
        {
            "phase": phase, "round": number, "seconds": float(rng.uniform(0.2, 0.5)), "bytes_up": up,
            "bytes_down": down, "replies": 8, "failures": 0,
        }
        for phase, rounds, up, down in plan
        for number in range(1, rounds + 1)
    ]  # fmt: skip
