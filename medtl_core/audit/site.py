"""The hospital under audit: its cases as features, and every release of a private method through the real gate."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medtl_core.audit.membership import Bools, by_owner, confidence, patients_of
from medtl_core.config import Settings, read_assignments, settings
from medtl_core.errors import ConfigError, DataError, PrivacyError
from medtl_core.federation.hospitals import Cost, Failure, Hospitals, Reply, Request
from medtl_core.federation.outcome import Problem
from medtl_core.federation.private import PrivateMethod, terms_of
from medtl_core.federation.registry import private_task
from medtl_core.federation.study import Study
from medtl_core.federation.tasks import SiteData
from medtl_core.heads.closed_form import FAMILIES
from medtl_core.heads.linear import local_head
from medtl_core.heads.statistics import Float, collect
from medtl_core.methods.private.public_pca import PublicMap, public_map
from medtl_core.privacy.bounded import Bounded
from medtl_core.privacy.gate import noised, unscaled
from medtl_core.privacy.noise import Entropy
from medtl_core.privacy.plan import Plan
from medtl_core.values import Array

#: The cases of a hospital that are audited if nobody says how many, and the share of them a shadow head sees.
SHOTS = 60


@dataclass(frozen=True)
class Hospital:
    """One hospital, alone with a server that reads everything it sends.

    Attributes:
        site: its cases.
        problem: what the server knows.
        settings: of the run; one hospital, no secure sum, its number of patients public.
        entropy: of the gate's noise.
    """

    site: SiteData
    problem: Problem
    settings: Settings
    entropy: Entropy = field(repr=False)

    @property
    def patients(self) -> int:
        """Number of patients."""
        return len(np.unique(self.site.patients))

    def keeping(self, rows: NDArray[Any]) -> "Hospital":
        """Returns the hospital with some of its cases (bool or int rows) only."""
        site = self.site
        kept = replace(site, values=site.values[rows], label=site.label[rows], patients=site.patients[rows])
        return replace(self, site=kept)

    def joined(self, row: Float, label: int) -> "Hospital":
        """Returns the hospital with one more patient of one case, features [d]."""
        site = self.site
        more = replace(
            site,
            values=np.concatenate([site.values, row[None].astype(np.float32)]),
            label=np.append(site.label, label),
            patients=np.append(site.patients, "one more patient"),
        )
        return replace(self, site=more)

    def plan(self, method: PrivateMethod) -> Plan:
        """Returns the method's plan here."""
        return method.plan(terms_of(self.settings, self.problem.width, len(self.problem.classes)))

    def sums(self, request: Request) -> Bounded:
        """Returns the clipped sums that answer a request, before any noise."""
        task = private_task(request.task)
        if task is None:
            raise PrivacyError(f"{request.task} is not a private sum; the audit watches methods that release sums only")
        return task(self.site, request.arrays, request.config)


def open_hospital(data: Mapping[str, Any], assignments: Sequence[str], shots: int, entropy: Entropy) -> Hospital:
    """Returns a hospital with some cases of a data set.

    Args:
        data: settings that name the data.
        assignments: further settings, `key=value`.
        shots: cases, of whole patients.
        entropy: of the gate's noise.

    Raises:
        MedtlError: settings, data, backbone or weights cannot be used.
    """
    from medtl_core.data.partition import partition
    from medtl_core.data.source import open_source
    from medtl_core.features.extract import extract, feature_spec

    given = {"sites": 1, "partition": "even", "colluders": 0, **data, **read_assignments(list(assignments))}
    chosen = settings({**given, "shots": shots})
    if chosen.sites != 1 or chosen.secure_sum:
        raise ConfigError("an audit watches what one hospital sends by itself: leave out sites and secure-sum")
    source = open_source(chosen)
    if source.columns:
        chosen = chosen.replace(backbone="table")
    cases = source.examples.take(partition(source.examples, chosen).sites[0].train)
    spec = feature_spec(chosen, source.entry.views, source.columns)
    found = extract(cases, spec, chosen)
    classes = source.examples.task.classes
    site = SiteData(
        "audited", found.values, cases["label"].astype(np.int64), cases["patient"], found.values[:0],
        np.zeros(0, np.int64), cases["patient"][:0], len(classes), chosen.seed,
    )  # fmt: skip
    problem = Problem(tuple(classes), found.fingerprint, found.groups, source.entry.views, source.entry.modality)
    patients = len(np.unique(site.patients))
    if patients < 8:
        raise DataError(f"{patients} patients are too few for an audit; raise shots to 8 or more")
    return Hospital(site, problem, chosen.replace(public_cases=patients), entropy)


class Watched(Hospitals):
    """The one hospital, answering through the gate, and a memory of what it was asked."""

    def __init__(self, hospital: Hospital, plan: Plan) -> None:
        self.hospital, self.plan = hospital, plan
        self.asked: list[Request] = []

    def ask(self, request: Request) -> Iterator[Reply]:
        """See Hospitals."""
        self.asked.append(request)
        step = int(request.config["step"])
        whole = noised(self.hospital.sums(request), self.plan, step, self.hospital.entropy)
        yield Reply(self.hospital.site.name, unscaled(whole, self.plan.steps[step]), {}, self.plan.terms.cases)

    @property
    def weights(self) -> Mapping[str, int]:
        """See Hospitals."""
        return {self.hospital.site.name: self.plan.terms.cases}

    @property
    def costs(self) -> Mapping[str, Cost]:
        """See Hospitals."""
        return {}

    @property
    def history(self) -> Sequence[Mapping[str, Any]]:
        """See Hospitals."""
        return ()

    @property
    def failures(self) -> tuple[Failure, ...]:
        """See Hospitals."""
        return ()


@dataclass(frozen=True)
class Rehearsal:
    """A private method on the hospital's cases.

    Attributes:
        method: under audit.
        map: all public directions, made once for every head.
    """

    method: PrivateMethod
    map: PublicMap

    def run(self, hospital: Hospital) -> tuple[Watched, Any]:
        """Returns what the hospital was asked, and the head that came of it."""
        watched = Watched(hospital, hospital.plan(self.method))
        study = Study(watched, hospital.problem, hospital.settings, (self.method,))
        study.once("public", lambda: (self.map.mean, self.map.scale, self.map.basis))
        return watched, self.method.outcome(study).heads[""]


def rehearsal(method: PrivateMethod, hospital: Hospital) -> Rehearsal:
    """Returns the rehearsal of a method; public images are read here."""
    watched = Watched(hospital, hospital.plan(method))
    study = Study(watched, hospital.problem, hospital.settings, (method,))
    return Rehearsal(method, public_map(study, hospital.problem.width))


def private_confidences(part: Rehearsal, hospital: Hospital, member: Bools) -> Float:
    """Returns how sure a private head of some patients (bool [patients]) is about each, float64 [patients]."""
    owner = patients_of(hospital.site.patients)
    half = hospital.keeping(member[owner])
    chosen = half.settings.replace(public_cases=max(half.patients, 2))
    _, head = part.run(replace(half, settings=chosen))
    site = hospital.site
    return by_owner(confidence(head.logits(site.values), site.label), owner)


def plain_confidences(name: str, hospital: Hospital, member: Bools) -> Float:
    """Returns the same of a head without privacy, one of `PLAIN`; closed-form heads at their middle strength."""
    site, owner = hospital.site, patients_of(hospital.site.patients)
    head = _plain_head(name, hospital.keeping(member[owner]).site)
    logits = site.values.astype(np.float64) @ head[:, :-1].T + head[:, -1]
    return by_owner(confidence(logits, site.label), owner)


def _plain_head(name: str, site: SiteData) -> Float:
    if name in FAMILIES:
        heads = FAMILIES[name].heads(collect(site.values, site.label, site.classes))
        return np.asarray(heads[len(heads) // 2])
    return local_head(site.values, site.label, site.classes)


#: Heads without privacy that can be attacked, as a yardstick.
PLAIN = (*FAMILIES, "logistic")


def exposed(hospital: Hospital, request: Request, weights: Mapping[str, float]) -> Float:
    """Returns the squared length of each patient's part in the answer, in units of the noise, float64 [patients]."""
    everybody, owner, found = hospital.sums(request), patients_of(hospital.site.patients), []
    for patient in range(int(owner.max()) + 1):
        part = shift_of(everybody, hospital.keeping(owner != patient).sums(request))
        found.append(sum(float((part[name] ** 2).sum()) * weight for name, weight in weights.items()))
    return np.array(found)


def shift_of(with_: Bounded, without: Bounded) -> dict[str, Array]:
    """Returns the difference of two sums, by name."""
    return {name: with_.update.arrays[name] - array for name, array in without.update.arrays.items()}
