"""A federation in memory, over features read once: for experiments that set up many federations in a row."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from medtl_core.config import Settings
from medtl_core.data.partition import partition
from medtl_core.data.source import open_source
from medtl_core.errors import MedtlError, RunError
from medtl_core.features.extract import extract, feature_spec
from medtl_core.federation.hospitals import Cost, Failure, Hospitals, Reply, Request
from medtl_core.federation.outcome import Problem
from medtl_core.federation.registry import answer
from medtl_core.federation.study import Study
from medtl_core.federation.tasks import SiteData
from medtl_core.methods.adaptation import Support
from medtl_core.runtime import one_thread
from medtl_core.values import Examples, Scores, Task

Index = NDArray[np.int64]


@dataclass(frozen=True)
class Cases:
    """A data set with the features of all its cases.

    Attributes:
        examples: n cases.
        values: float32 [n, d].
        fingerprint, groups: of the features.
        settings: what they were read under.
    """

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
    found = extract(source.examples, spec, settings)
    return Cases(source.examples, found.values, found.fingerprint, found.groups, settings)


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
    return Study(MemoryHospitals(sites, settings.quorum), problem, settings, ())


@final
class MemoryHospitals(Hospitals):
    """Hospitals in this process, without a network: a hospital that cannot answer sits out, and the quorum decides."""

    def __init__(self, sites: Sequence[SiteData], quorum: float) -> None:
        self._sites = {site.name: site for site in sorted(sites, key=lambda site: site.name)}
        self._quorum = quorum
        self._failures: list[Failure] = []

    @property
    def weights(self) -> Mapping[str, int]:
        """See Hospitals."""
        return {name: len(site.label) for name, site in self._sites.items()}

    def ask(self, request: Request) -> Iterator[Reply]:
        """See Hospitals."""
        heard = 0
        for name, site in self._sites.items():
            if request.only is not None and name not in request.only:
                continue
            arrays = {**request.arrays, **(request.own(name) if request.own else {})}
            try:
                released = answer(request.task, site, arrays, request.config)
            except MedtlError as error:
                self._failures.append(Failure(name, "error", f"{request.phase or request.task}: {error}"))
                continue
            heard += 1
            yield Reply(name, released.update.arrays, released.metrics, len(site.label))
        if heard < self._quorum * len(self._sites):
            raise RunError(f"{request.task}: {heard} of {len(self._sites)} hospitals answered, below the quorum")

    @property
    def costs(self) -> Mapping[str, Cost]:
        """See Hospitals; nothing is sent, so nothing is counted."""
        return {}

    @property
    def failures(self) -> tuple[Failure, ...]:
        """See Hospitals."""
        return tuple(self._failures)

    @property
    def history(self) -> Sequence[Mapping[str, Any]]:
        """See Hospitals."""
        return ()
