"""Hospitals, messages and terms on which the tests of private mechanisms agree."""

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
from hypothesis import strategies as st

from medtl_core.federation.tasks import SiteData
from medtl_core.privacy.plan import Terms
from medtl_core.values import Array

WIDTH, CLASSES, SIZE = 6, 3, 4

#: A new patient's features [k, WIDTH], as an adversary would choose them; the last cases of `site` are known.
PATIENTS: Mapping[str, Callable[[np.random.Generator, SiteData, int], np.ndarray]] = {
    "ordinary": lambda rng, site, k: 3.0 + rng.standard_normal((k, WIDTH)),
    "huge": lambda rng, site, k: 1e38 * rng.choice([-1.0, 1.0], (k, WIDTH)),
    "tiny": lambda rng, site, k: 1e-30 * rng.standard_normal((k, WIDTH)),
    "duplicate": lambda rng, site, k: np.repeat(site.values[:1], k, axis=0),
    "opposite": lambda rng, site, k: np.repeat(2 * 3.0 - site.values[:1], k, axis=0),
    "orthogonal": lambda rng, site, k: 3.0 + 1e6 * np.eye(WIDTH)[rng.integers(WIDTH, size=k)],
    "mean": lambda rng, site, k: np.full((k, WIDTH), 3.0),
    "cancelling": lambda rng, site, k: 3.0 + np.where(np.arange(k) % 2, 1e4, -1e4)[:, None] * np.ones(WIDTH),
}


def hospital(patients: int, rng: np.random.Generator) -> SiteData:
    """A hospital whose patients have one to three cases each."""
    cases = rng.integers(1, 4, size=patients)
    names = np.repeat([f"p{number}" for number in range(patients)], cases)
    label = rng.integers(CLASSES, size=len(names)).astype(np.int64)
    values = (3.0 + rng.standard_normal((len(names), WIDTH))).astype(np.float32)
    nobody = (np.zeros((0, WIDTH), np.float32), np.zeros(0, np.int64), np.zeros(0, str))
    return SiteData("north", values, label, names, *nobody, CLASSES, 0)


def with_patient(site: SiteData, kind: str, cases: int, rng: np.random.Generator, name: str = "a-new-one") -> SiteData:
    """The same hospital with one more patient."""
    values = PATIENTS[kind](rng, site, cases).astype(np.float32)
    label = rng.integers(CLASSES, size=cases).astype(np.int64)
    return replace(
        site, values=np.concatenate([site.values, values]), label=np.concatenate([site.label, label]),
        patients=np.concatenate([site.patients, np.full(cases, name)]),
    )  # fmt: skip


def map_arrays(rng: np.random.Generator) -> dict[str, Array]:
    """A public map to SIZE directions."""
    basis = np.linalg.qr(rng.standard_normal((WIDTH, WIDTH)))[0][:, :SIZE]
    return {"mean": np.full(WIDTH, 3.0), "scale": rng.uniform(0.5, 2.0, WIDTH), "basis": basis}


#: Public facts as they may come; the last ones are the smallest federation and one with many colluders.
TERMS = st.builds(
    Terms,
    epsilon=st.floats(0.05, 20.0),
    delta=st.floats(1e-9, 1e-3),
    hospitals=st.integers(1, 40),
    colluders=st.integers(0, 45),
    cases=st.integers(2, 900),
    width=st.integers(1, 2000),
    classes=st.integers(2, 40),
    secure=st.booleans(),
)
