"""The hospital under audit: its cases as features, and every release of a private method through the real gate."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medtl_core.config import Settings, read_assignments, settings
from medtl_core.errors import ConfigError, DataError, PrivacyError
from medtl_core.federation.hospitals import Request
from medtl_core.federation.memory import MemoryHospitals
from medtl_core.federation.model import Classifier
from medtl_core.federation.outcome import Problem
from medtl_core.federation.private import PrivateMethod, terms_of
from medtl_core.federation.registry import private_task
from medtl_core.federation.study import Study
from medtl_core.federation.tasks import Arrays, SiteData
from medtl_core.privacy.bounded import Bounded
from medtl_core.privacy.gate import noised, unscaled
from medtl_core.privacy.noise import Entropy
from medtl_core.privacy.patients import PublicMap
from medtl_core.privacy.plan import Plan
from medtl_core.values import Array, Released, Update

#: Fewer patients cannot be told apart from each other's noise, whatever is attacked.
_FEWEST = 8


@dataclass(frozen=True)
class AuditedSite:
    """One hospital, alone with a server that reads everything it sends.

    Attributes:
        problem: what the server knows.
        settings: of the run; one hospital, no secure sum, its number of patients public.
    """

    data: SiteData
    problem: Problem
    settings: Settings
    entropy: Entropy = field(repr=False)

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

    def plan(self, method: PrivateMethod) -> Plan:
        """Returns the method's plan here."""
        return method.plan(terms_of(self.settings, self.problem.width, len(self.problem.classes)))

    def sums(self, request: Request) -> Bounded:
        """Returns the clipped sums that answer a request, before any noise.

        Raises:
            PrivacyError: the request asks for something else.
        """
        task = private_task(request.task)
        if task is None:
            raise PrivacyError(f"{request.task} is not a private sum; the audit watches methods that release sums only")
        return task(self.data, request.arrays, request.config)

    def run(self, method: PrivateMethod) -> tuple[tuple[Request, ...], Classifier]:
        """Returns what the hospital was asked, and the head that came of it."""
        hospitals = GatedHospital(self, self.plan(method))
        study = Study(hospitals, self.problem, self.settings, (method,))
        head = method.outcome(study).heads[""]
        return tuple(hospitals.asked), head

    def informed(self, request: Request) -> "AuditedSite":
        """Returns the hospital with a server that has the directions of a request: many runs read the images once.

        No run may keep more directions than the one of the request; fewer patients never do.
        """
        return replace(self, problem=replace(self.problem, public=PublicMap.received(request.arrays)))


class GatedHospital(MemoryHospitals):
    """The one hospital, answering through the gate."""

    def __init__(self, site: AuditedSite, plan: Plan) -> None:
        super().__init__([site.data])
        self._site, self._plan = site, plan

    def answer(self, site: SiteData, request: Request, arrays: Arrays) -> Released:
        """See MemoryHospitals."""
        sums, step = self._site.sums(request), int(request.config["step"])
        return Released(Update(gated(sums, self._plan, step, self._site.entropy)))


def gated(bounded: Bounded, plan: Plan, step: int, entropy: Entropy) -> dict[str, Array]:
    """Returns what the gate lets out of clipped sums, float64, in the units they were summed in."""
    return unscaled(noised(bounded, plan, step, entropy), plan.steps[step])


def open_hospital(source: Mapping[str, Any], assignments: Sequence[str], shots: int, entropy: Entropy) -> AuditedSite:
    """Returns a hospital with `shots` cases, of whole patients, of the data set that settings name.

    Raises:
        MedtlError: settings, data, backbone or weights cannot be used.
    """
    from medtl_core.data.images import images_of
    from medtl_core.data.partition import partition
    from medtl_core.data.source import open_source
    from medtl_core.features.extract import extract, feature_spec

    given = {"sites": 1, "partition": "even", "colluders": 0, **source, **read_assignments(list(assignments))}
    chosen = settings({**given, "shots": shots})
    if chosen.sites != 1 or chosen.secure_sum:
        raise ConfigError("an audit watches what one hospital sends by itself: leave out sites and secure-sum")
    opened = open_source(chosen)
    if images_of(opened.examples) is None:
        chosen = chosen.replace(backbone="table")
    cases = opened.examples.take(partition(opened.examples, chosen).sites[0].train)
    features = extract(cases, feature_spec(chosen, opened.entry.views, opened.columns), chosen)
    classes, values = opened.examples.task.classes, features.values
    nobody = (values[:0], np.zeros(0, np.int64), cases["patient"][:0])
    label = cases["label"].astype(np.int64)
    data = SiteData("audited", values, label, cases["patient"], *nobody, len(classes), chosen.seed)
    problem = Problem(tuple(classes), features.fingerprint, features.groups, opened.entry.views, opened.entry.modality)
    patients = len(np.unique(data.patients))
    if patients < _FEWEST:
        raise DataError(f"{patients} patients are too few for an audit; raise shots to {_FEWEST} or more")
    return AuditedSite(data, problem, chosen.replace(public_cases=patients), entropy)
