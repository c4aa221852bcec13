"""A federation in memory, over features read once: for experiments that set up many federations in a row."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medtl_core.config import Settings
from medtl_core.data.partition import partition
from medtl_core.data.source import open_source
from medtl_core.features.extract import extract, feature_spec
from medtl_core.federation.outcome import Problem
from medtl_core.federation.study import Study
from medtl_core.federation.tasks import SiteData
from medtl_core.methods.adaptation import Support
from medtl_core.runtime import one_thread
from medtl_core.values import Examples, Scores, Task
from simulations.memory import MemoryHospitals

Index = NDArray[np.int64]


@dataclass(frozen=True)
class Cases:
    """A data set with the features of all its cases, float32 [n, d], and the settings they were read under."""

    examples: Examples
    values: NDArray[np.float32]
    fingerprint: str
    groups: tuple[tuple[str, int, int], ...]
    settings: Settings

    def rows(self, split: str) -> Index:
        """Returns the rows of split "test", or of all others ("train")."""
        return np.flatnonzero((self.examples["split"] == "test") == (split == "test"))

    def support(self, rows: Index, classes: Sequence[str]) -> Support:
        """Returns labelled cases of some classes as a hospital's own; cases of other classes must not be among them."""
        values, patients = self.values[rows], self.examples["patient"][rows]
        return Support(values, self.relabelled(rows, classes), patients, tuple(classes))

    def relabelled(self, rows: Index, classes: Sequence[str]) -> Index:
        """Returns labels as positions in `classes`."""
        names = np.asarray(self.examples.task.classes)[self.examples["label"][rows]]
        where = {name: number for number, name in enumerate(classes)}
        return np.asarray([where[name] for name in names.tolist()], dtype=np.int64)

    def scores(self, logits: NDArray[np.float64], rows: Index, classes: Sequence[str]) -> Scores:
        """Returns logits [m, C] of rows with what they are judged against."""
        group = np.unique(self.examples["patient"][rows], return_inverse=True)[1].astype(np.int64)
        return Scores(logits, self.relabelled(rows, classes), self.examples["site"][rows], group)

    def of_classes(self, rows: Index, classes: Sequence[str]) -> Index:
        """Returns those of some rows whose class is among `classes`."""
        numbers = [self.examples.task.classes.index(name) for name in classes]
        return rows[np.isin(self.examples["label"][rows], numbers)]


def load(settings: Settings) -> Cases:
    """Returns the data set `settings` name with its features, from the cache where they were computed before."""
    one_thread()
    source = open_source(settings)
    spec = feature_spec(settings, source.entry.views, source.columns)
    features = extract(source.examples, spec, settings)
    return Cases(source.examples, features.values, features.fingerprint, features.groups, settings)


def federate(cases: Cases, rows: Index, classes: Sequence[str], settings: Settings) -> Study:
    """Returns a study over hospitals that hold `rows`, whose classes are all among `classes`."""
    part = cases.examples.take(rows)
    own = Examples({**part.columns, "label": cases.relabelled(rows, classes)}, Task("federation", tuple(classes)))
    sites = []
    for site in partition(own, settings).sites:
        train, none = rows[site.train], rows[:0]
        sides = [
            (cases.values[one], cases.relabelled(one, classes), cases.examples["patient"][one]) for one in (train, none)
        ]
        sites.append(SiteData(site.name, *sides[0], *sides[1], len(classes), settings.seed))
    problem = Problem(tuple(classes), cases.fingerprint, cases.groups)
    return Study(MemoryHospitals(sites, quorum=settings.quorum), problem, settings, ())
