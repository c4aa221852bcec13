"""The runs of a privacy sweep: which there are, where each lies, and under which settings."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from medtl_core.config import Settings
from medtl_core.data.shared import shared_parts, shared_source
from medtl_core.errors import ConfigError
from medtl_core.federation.private import PrivateMethod, terms_of
from medtl_core.flower.run import RunPlan
from medtl_core.sweep.job_queue import Job

#: What is compared without privacy: exact sums, averaging, and no collaboration at all.
REFERENCES = ("discriminant", "fedavg-20", "local")

#: How the hospitals' answers are added: seen by nobody, seen by the server, or without privacy.
SECURE, OPEN, FREE = "secure", "open", "free"

#: Settings that may differ between two calls of one sweep: cells are named by them, or they only say where things lie.
_FREE_SETTINGS = ("shots", "seed", "epsilon", "privacy", "methods", "secure-sum", "out", "state", "cache")


@dataclass(frozen=True)
class Sweep:
    """A privacy sweep, checked.

    Attributes:
        plan: what all runs share: settings, workers, number of seeds, folder, app and name.
        epsilons: promised, in order.
        shots: labelled cases of each hospital, in order.
        mechanisms: private methods.
        secure: whether hospitals' sums are taken securely.
    """

    plan: RunPlan
    epsilons: tuple[float, ...]
    shots: tuple[int, ...]
    mechanisms: tuple[PrivateMethod, ...]
    secure: bool

    @property
    def data(self) -> str:
        """Name of the data set, for folders and tables."""
        chosen = self.plan.settings
        return chosen.data or Path(chosen.data_path).stem

    @property
    def identity(self) -> dict[str, Any]:
        """What two calls must have in common to be one sweep, JSON-able."""
        public = self.plan.settings.public()
        return {
            "sweep": "privacy",
            "settings": {key: value for key, value in public.items() if key not in _FREE_SETTINGS},
            "mechanisms": [method.name for method in self.mechanisms],
            "references": list(REFERENCES),
            "secure-sum": self.secure,
        }


def place(out: Path, mode: str, name: str, epsilon: float, seed: int) -> Path:
    """Returns the folder of one run.

    Example:
        >>> place(Path("runs"), "secure", "phantom-30", 0.5, 1).as_posix()
        'runs/secure/phantom-30-0.5/seed-1'
    """
    return out / mode / f"{name}-{epsilon:g}" / f"seed-{seed}"


def jobs(sweep: Sweep) -> Iterator[Job]:
    """Yields every run, the first seed of all of them first, so that a short budget covers every row.

    Raises:
        ConfigError: the settings contradict privacy, or a hospital would have too few patients for it.
        PrivacyError: delta promises nothing to so many patients.
        DataError: the data cannot be used.
    """
    shared = sweep.plan.settings
    for seed, shots in product(range(sweep.plan.seeds), sweep.shots):
        chosen = shared.replace(shots=shots, seed=shared.seed + seed)
        yield _job(sweep, FREE, 0.0, chosen.without_promise())
        chosen = chosen.replace(public_cases=chosen.public_cases or fewest_patients(chosen))
        for epsilon in sweep.epsilons:
            private = chosen.replace(privacy="auto", epsilon=epsilon, secure_sum=sweep.secure)
            terms_of(private, width=1, classes=2)  # what it says of delta holds for any width
            yield _job(sweep, SECURE if sweep.secure else OPEN, epsilon, private)


def _job(sweep: Sweep, mode: str, epsilon: float, chosen: Settings) -> Job:
    folder = place(sweep.plan.out, mode, f"{sweep.data}-{chosen.shots}", epsilon, chosen.seed)
    names = REFERENCES if mode == FREE else [method.name for method in sweep.mechanisms]
    return Job(folder, chosen.replace(methods=",".join(names)))


def fewest_patients(chosen: Settings) -> int:
    """Returns how many patients the smallest hospital of a run has: what a simulation takes as the public number.

    It is looked up in the simulated hospitals' cases, which real hospitals could not do: they agree on a number first.

    Raises:
        ConfigError: there are fewer than two.
    """
    patient = shared_source(chosen).examples["patient"]
    fewest, name = min((len(np.unique(patient[part.train])), part.name) for part in shared_parts(chosen).sites)
    if fewest < 2:
        raise ConfigError(
            f"hospital {name!r} has {fewest} patient(s) with shots={chosen.shots}, seed={chosen.seed}; privacy needs "
            "two: choose more shots, fewer sites or another partition"
        )
    return fewest
