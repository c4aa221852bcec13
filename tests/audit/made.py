"""A made-up hospital that stands at the audit's door."""

from pathlib import Path

import numpy as np

from medtl_core.audit.door import Door
from medtl_core.audit.site import AuditedData, AuditedSite
from medtl_core.config import Settings
from medtl_core.federation.outcome import Problem
from medtl_core.federation.tasks import SiteData
from medtl_core.flower.run import load_apps
from medtl_core.privacy.noise import insecure_entropy
from medtl_core.rng import stream

ROOT = Path(__file__).resolve().parents[2]
WIDTH, CLASSES, PATIENTS = 20, 3, 40


def door(folder: Path) -> Door:
    return Door(load_apps(ROOT)[1], folder)


def hospital(folder: Path, patients: int = PATIENTS) -> AuditedSite:
    """Patients of one to two cases; the map of a table is the identity, so no image is needed."""
    rng = stream(0, "audit")
    names = np.concatenate([np.arange(patients), np.arange(0, patients, 3)])
    label = names % CLASSES
    values = 0.6 * np.eye(WIDTH)[label] + 0.3 * rng.standard_normal((len(names), WIDTH))
    nobody = (np.zeros((0, WIDTH), np.float32), np.zeros(0, np.int64), np.zeros(0, str))
    data = SiteData("one", values.astype(np.float32), label, names.astype(str), *nobody, CLASSES, 0)
    chosen = Settings(backbone="table", sites=1, colluders=0, public_cases=patients - 1, epsilon=3.0)
    problem = Problem(("a", "b", "c"), "features", (("table", 0, WIDTH),))
    return AuditedSite(data, problem, chosen, insecure_entropy(1), door(folder))


def data_set(folder: Path) -> AuditedData:
    """The same hospital, and its cases as if they were two hospitals'."""
    site = hospital(folder)
    return AuditedData(site, site, np.where(site.owner % 2, "east", "west"))
