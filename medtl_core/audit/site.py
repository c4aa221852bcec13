"""The hospital under audit: its cases, what the server knows, and the run of a private method at its door."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medtl_core.audit.door import NAME, Door, as_table, directions
from medtl_core.config import Settings, read_assignments, settings
from medtl_core.errors import ConfigError, DataError, PrivacyError, RunError
from medtl_core.features.spec import feature_spec
from medtl_core.federation.hospitals import Hospitals, Reply, Request
from medtl_core.federation.model import Classifier
from medtl_core.federation.outcome import Problem
from medtl_core.federation.private import PrivateMethod, terms_of
from medtl_core.federation.study import Study
from medtl_core.federation.tasks import SiteData
from medtl_core.fingerprint import agreement
from medtl_core.flower.exchange import ExchangeTerms, GridHospitals
from medtl_core.privacy.noise import Entropy
from medtl_core.privacy.patients import PublicMap
from medtl_core.privacy.plan import Plan
from medtl_core.rng import stream
from medtl_core.values import Array

#: Fewer patients cannot be told apart from each other's noise, whatever is attacked.
_FEWEST = 8
#: Seconds a hospital may take; it is on this machine.
_DEADLINE = 600.0


@dataclass(frozen=True)
class AuditedSite:
    """One hospital, alone with a server that reads everything it sends.

    Attributes:
        data: its cases.
        problem: what the server knows.
        settings: of the run; one hospital, no secure sum, one patient fewer public than there are.
        entropy: of noise; an insecure one, a test's, is the hospital's own too.
        door: where it stands when it is asked.
    """

    data: SiteData
    problem: Problem
    settings: Settings
    entropy: Entropy = field(repr=False)
    door: Door = field(repr=False)

    @property
    def owner(self) -> NDArray[np.int64]:
        """The number of the patient of every case, int64 [n]."""
        return np.asarray(np.unique(self.data.patients, return_inverse=True)[1], np.int64)

    @property
    def patients(self) -> int:
        """Number of patients."""
        return len(np.unique(self.data.patients))

    def keeping(self, rows: NDArray[Any]) -> "AuditedSite":
        """Returns the hospital with some of its cases (bool or int rows) only."""
        data = self.data
        some = {"values": data.values[rows], "label": data.label[rows], "patients": data.patients[rows]}
        return replace(self, data=replace(data, **some))

    def public(self, patients: int) -> "AuditedSite":
        """Returns the hospital with another number of patients made public, two at least."""
        return replace(self, settings=self.settings.replace(public_cases=max(patients, 2)))

    def plan(self, method: PrivateMethod) -> Plan:
        """Returns the method's plan here."""
        return method.plan(terms_of(self.settings, self.problem.width, len(self.problem.classes)))

    def deployed(self) -> Path:
        """Returns the folder in which it now stands as it would be deployed."""
        terms = terms_of(self.settings, self.problem.width, len(self.problem.classes))
        return self.door.deploy(self.data, self.problem.classes, terms.cases, terms.delta)

    def run(self, method: PrivateMethod) -> tuple[tuple[Request, ...], Classifier]:
        """Returns what the hospital was asked at its door, and the head that came of it.

        Raises:
            MedtlError: it did not answer.
        """
        agreed = agreement(self.settings, self.problem.classes, self.problem.fingerprint)
        terms = ExchangeTerms(agreed, expected=1, quorum=1.0, deadline=_DEADLINE)
        noise = self.door.drawing(lambda: self.entropy) if self.entropy.marked else contextlib.nullcontext()
        with noise, self.door.asked(self.settings.public(), [self.deployed()]) as grid:
            hospitals = GridHospitals(grid, terms)
            hospitals.join()
            heard = Overheard(hospitals)
            head = method.outcome(Study(heard, self.problem, self.settings, (method,))).heads[""]
        return tuple(heard.asked), head

    def directions(self, method: PrivateMethod) -> PublicMap:
        """Returns the public map of a method's first question; the public images are read for it.

        Raises:
            PrivacyError: there is none in it.
        """
        heard = Overheard(None)
        with contextlib.suppress(RunError):
            method.outcome(Study(heard, self.problem, self.settings, (method,)))
        if not heard.asked or not {"mean", "scale", "basis"} <= heard.asked[0].arrays.keys():
            raise PrivacyError(f"{method.name} asks for no sums of rows on public directions; it cannot be audited")
        return PublicMap.received(heard.asked[0].arrays)

    def on_directions(self, known: PublicMap) -> "AuditedSite":
        """Returns the hospital as a table: what public directions keep of each case.

        Rows of length one, and so every sum, are the same as of the cases themselves.
        """
        seen = ((self.data.values.astype(np.float64) - known.mean) / known.scale) @ known.basis
        size = seen.shape[1]
        places = dict.fromkeys(("data", "data_path", "test_path", "cache", "weights"), "")
        chosen = self.settings.replace(**places, backbone="table", features="rich", privacy="auto")
        spec = feature_spec(chosen, ("identity",), directions(size))
        selected = np.zeros((2 * size, size))
        selected[np.arange(0, 2 * size, 2), np.arange(size)] = 1.0
        public = PublicMap(np.zeros(2 * size), np.ones(2 * size), selected)
        problem = Problem(self.problem.classes, spec.fingerprint, spec.groups, public=public)
        table = as_table(seen.astype(np.float32))
        return replace(self, data=replace(self.data, values=table), problem=problem, settings=chosen)


class Overheard(Hospitals):
    """Hospitals whose questions are written down; with nobody behind the first question ends the study."""

    def __init__(self, behind: Hospitals | None) -> None:
        self.asked: list[Request] = []
        self._behind = behind
        self.weights = behind.weights if behind else {}
        self.exchanges, self.failures = (behind.exchanges, behind.failures) if behind else ((), ())

    def ask(self, request: Request) -> Iterator[Reply]:
        """See Hospitals."""
        self.asked.append(request)
        if self._behind is None:
            raise RunError("nobody answers")
        yield from self._behind.ask(request)


@dataclass(frozen=True)
class AuditedData:
    """The data set of an audit.

    Attributes:
        site: one hospital cut from it.
        pooled: cases of every place of the data, as if they were one hospital's.
        where: str [n], the place of each of these.
    """

    site: AuditedSite
    pooled: AuditedSite
    where: NDArray[np.str_]


def open_data(
    source: Mapping[str, Any], assignments: Sequence[str], shots: int, entropy: Entropy, door: Door
) -> AuditedData:
    """Returns a hospital with `shots` cases, of whole patients, of the data set that settings name, and the whole set.

    Raises:
        MedtlError: settings, data, backbone or weights cannot be used.
    """
    from medtl_core.data.images import images_of
    from medtl_core.data.partition import partition
    from medtl_core.data.source import open_source
    from medtl_core.features.extract import extract

    given = {"sites": 1, "partition": "even", "colluders": 0, **source, **read_assignments(list(assignments))}
    chosen = settings({**given, "shots": shots})
    if chosen.sites != 1 or chosen.secure_sum:
        raise ConfigError("an audit watches what one hospital sends by itself: leave out sites and secure-sum")
    opened = open_source(chosen)
    opened.examples.task.tell_classes("medtl audit")
    if images_of(opened.examples) is None and "image" in chosen.kinds:
        chosen = chosen.replace(backbone="table")
    examples, entry = opened.examples, opened.entry
    train = partition(examples, chosen).sites[0].train
    pool = _of_every_place(examples["site"], examples["patient"], shots, chosen.seed)
    rows, place = np.unique(np.concatenate([train, pool]), return_inverse=True)
    cases = examples.take(rows)
    features = extract(cases, feature_spec(chosen, entry.views, opened.columns), chosen)
    classes, values = examples.task.classes, features.values
    label, patients = cases["label"].astype(np.int64), cases["patient"]
    nobody = (values[:0], np.zeros(0, np.int64), patients[:0])
    data = SiteData(NAME, values, label, patients, *nobody, len(classes), chosen.seed)
    problem = Problem(tuple(classes), features.fingerprint, features.groups, entry.views, entry.modality)
    every = AuditedSite(data, problem, chosen, entropy, door)
    site, pooled = every.keeping(place[: len(train)]), every.keeping(place[len(train) :])
    if site.patients < _FEWEST:
        raise DataError(f"{site.patients} patients are too few for an audit; raise shots to {_FEWEST} or more")
    return AuditedData(
        site.public(site.patients - 1), pooled.public(pooled.patients - 1), cases["site"][place[len(train) :]]
    )


def _of_every_place(where: Array, patients: Array, shots: int, seed: int) -> NDArray[np.int64]:
    """Rows of `shots` cases of every place, patient by patient; none where there is one place only."""
    names, taken = np.unique(where), [np.zeros(0, np.int64)]
    for name in names if len(names) > 1 else ():
        rows = np.flatnonzero(where == name)
        own, owner = np.unique(patients[rows], return_inverse=True)
        turn = stream(seed, "audit", "place", str(name)).permutation(len(own))[owner]
        taken.append(rows[np.argsort(turn, kind="stable")][: shots or None])
    return np.concatenate(taken)
