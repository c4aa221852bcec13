"""Private fusion: two-round prototypes of several modalities, of which the noise itself says how much each counts.

Every modality has directions of its own (`joint_map`), and noised releases sum them side by side: so patients who lack
one take part, and no further question is put to them. How much a modality tells is read from the class sums that were
released anyway: as much of its energy as exceeds what noise alone has there, which may be none (James and Stein, 1961).
That is post-processing and free; cross-validation would be another release.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, final

import numpy as np
from numpy.typing import NDArray

from medtl_core.features.dataset import Material
from medtl_core.federation.model import Model
from medtl_core.federation.outcome import Outcome
from medtl_core.federation.private import MAP, PrivateMethod, PrivateTask
from medtl_core.federation.study import Study
from medtl_core.federation.tasks import Arrays, Config, SiteData
from medtl_core.heads.statistics import Float
from medtl_core.methods.models.fused import modalities
from medtl_core.methods.private.auto import FEWEST, GRAM_FROM, share_of, signal
from medtl_core.methods.private.centred_sums import angles, metric_of, packed, unpacked
from medtl_core.methods.private.joint_map import JointMap
from medtl_core.methods.private.planned_sums import bill_of, noised_sum, plan_of, sharing
from medtl_core.methods.private.prototypes import COUNT, GRAM, MEAN, Prototypes
from medtl_core.methods.private.public_pca import part_map, settings_of
from medtl_core.privacy.bounded import Bounded
from medtl_core.privacy.patients import Patients, by_patient, unit
from medtl_core.privacy.plan import Plan, Terms
from medtl_core.values import Update

#: What every request brings: `joint_map.JointMap`.
_JOINT = {**MAP, "of": "d", "absent": "d", "part": "k"}
#: Deviations of the noise that a count of patients is at least: a centre divided by fewer lies anywhere.
_SURE = 3.0


def private_joint_mean(site: SiteData, arrays: Arrays, config: Config) -> Bounded:
    """Sum of the patients' rows over sqrt M [k], and who has what [k]: of each part there a row of length 1 / sqrt M.

    Guarantee:
        Unit: patient; add or remove one. Sensitivity 1 each: a row has M parts of length at most 1 / sqrt M. Public:
        map and classes.
    """
    map_, patients = _patients(site, arrays)
    counted = map_.there(patients.rows) * lengths_of(map_.part)
    sums = {"sum": patients.rows.sum(axis=0) * map_.share, "there": counted.sum(axis=0)}
    return Bounded(Update(sums), dict.fromkeys(sums, 1.0))


def private_joint_sums(site: SiteData, arrays: Arrays, config: Config) -> Bounded:
    """Class sums [C, k] of centred rows of length one, and with `config["gram"]` their packed Gram matrix.

    What a patient lacks stays zero, and the others speak the louder.

    Guarantee:
        Unit: patient; add or remove one. Sensitivity 1 of each, as in `centred_sums.private_sums`: a row is brought to
        length one at last. Public: the centre, made of the private release of the first round.
    """
    map_, patients = _patients(site, arrays)
    moved = patients.rows - arrays["centre"].astype(np.float64)
    centred = unit(np.where(map_.there(patients.rows), moved, 0.0))
    sums = {"sums": patients.onehot(site.classes).T @ centred}
    if config["gram"]:
        sums["gram"] = packed(centred.T @ centred)
    return Bounded(Update(sums), dict.fromkeys(sums, 1.0))


def _patients(site: SiteData, arrays: Arrays) -> tuple[JointMap, Patients]:
    map_ = JointMap.received(arrays)
    patients = by_patient(map_.rows(site.values) * map_.share, site.label, site.patients)
    return map_, Patients(patients.rows / map_.share, patients.label)


def lengths_of(part: Float) -> Float:
    """Returns what each direction counts [k], so that the part of each of M modalities has length 1 / sqrt M."""
    numbers, place, sizes = np.unique(part, return_inverse=True, return_counts=True)
    return np.asarray(1.0 / np.sqrt(len(numbers) * sizes[place]))


@final
@dataclass(frozen=True)
class JointDirections(Model):
    """Logits are rows of several modalities less the centre, where a case has them, times `weight` [C, k].

    Attributes:
        members: names of the modalities.
    """

    kind: ClassVar[str] = "joint-directions"
    AXES: ClassVar[Mapping[str, str]] = {
        "mean": "d", "scale": "d", "basis": "dk", "of": "d", "absent": "d", "part": "k", "centre": "k", "weight": "ck",
    }  # fmt: skip

    members: tuple[str, ...]
    map: JointMap
    centre: Float
    weight: Float
    classes: tuple[str, ...]
    fingerprint: str
    facts: Mapping[str, Any] = field(default_factory=dict)

    def logits(self, values: NDArray[np.floating[Any]], material: Material | None = None) -> Float:
        """See Model."""
        return np.asarray(self._centred(values) @ self.weight.T)

    def shares(self, values: NDArray[np.floating[Any]]) -> Float:
        """Returns what each member adds to the logits, float64 [M, n, C]: zeros where a case lacks it."""
        centred = self._centred(values)
        mine = [self.map.part == number for number in range(len(self.members))]
        return np.stack([centred[:, part] @ self.weight[:, part].T for part in mine])

    def _centred(self, values: NDArray[np.floating[Any]]) -> Float:
        rows = self.map.rows(values)
        return np.asarray(np.where(self.map.there(rows), rows - self.centre, 0.0))


@final
@dataclass(frozen=True)
class PrivateFusion(PrivateMethod):
    """Two-round prototypes of several modalities; each counts as far as its noised class sums exceed the noise.

    Guarantee:
        See PrivateMethod. Two releases: mean and who has what; class sums and, where the budget carries it, the Gram
        matrix of centred rows. The weights are made of these and cost nothing.
    """

    syntax: ClassVar[str] = "private-fusion"
    example: ClassVar[str] = "private-fusion"
    summary: ClassVar[str] = "private: prototypes of several modalities, each weighed by what it tells beyond the noise"

    def plan(self, terms: Terms) -> Plan:
        """See PrivateMethod; the shares are those of `private-prototypes`."""
        gram = {"gram": GRAM} if signal(terms) >= GRAM_FROM else {}
        first = sharing(terms, "private_joint_mean", {"sum": MEAN, "there": COUNT})
        second = sharing(terms, "private_joint_sums", {"sums": 1 - MEAN - COUNT - sum(gram.values()), **gram})
        return Plan(self.name, terms, (first, second))

    def outcome(self, study: Study) -> Outcome:
        """See Method."""
        plan, problem, public = plan_of(self, study), study.problem, study.once("joint", lambda: _map_of(study))
        size, noise = len(public.part), plan.deviations(1)
        first = noised_sum(study, self, 0, public.arrays, {"sum": (size,), "there": (size,)})
        patients = _counted(public.part, first["there"], plan.deviations(0)["there"])
        centre = first["sum"] / (patients * public.share)
        gram: dict[str, tuple[int, ...]] = {"gram": (size * (size + 1) // 2,)} if "gram" in noise else {}
        sent, shapes = {**public.arrays, "centre": centre}, {"sums": (len(problem.classes), size), **gram}
        second = noised_sum(study, self, 1, sent, shapes, config={"gram": bool(gram)})
        cases = float(patients.max())
        metric = metric_of(unpacked(second["gram"], size), cases, noise["gram"]) if gram else np.eye(size)
        kept = kept_share(second["sums"], public.part, noise["sums"])
        left = noise["sums"] * math.sqrt(float((kept**2 * np.diag(metric)).sum() / np.trace(metric)))
        weight = angles(second["sums"] * kept, metric, left)
        members = tuple(part.name for part in modalities(problem))
        each = [int(np.flatnonzero(public.part == number)[0]) for number in public.numbers]
        facts = {
            "epsilon": plan.terms.epsilon, "delta": plan.terms.delta, "directions": size,
            "weights": dict(zip(members, kept[each].tolist(), strict=True)),
            "patients": dict(zip(members, patients[each].tolist(), strict=True)),
        }  # fmt: skip
        model = JointDirections(members, public, centre, weight, problem.classes, problem.fingerprint, facts)
        return Outcome({"": model}, bill_of(self, study), 0.0, facts)


def kept_share(sums: Float, part: Float, noise: float) -> Float:
    """Returns what is kept of each direction [k]: the share of its modality's energy that is no noise.

    The energy is that of class sums [C, k], each entry with noise of this deviation; where noise alone could have all
    of it, nothing is kept, unless that is so of every modality.
    """
    kept = np.zeros(len(part))
    for number in np.unique(part):
        mine = part == number
        energy = float((sums[:, mine] ** 2).sum())
        kept[mine] = max(0.0, 1.0 - noise**2 * sums[:, mine].size / max(energy, 1e-300))
    return kept if kept.any() else np.ones(len(part))


def _counted(part: Float, there: Float, noise: float) -> Float:
    """How many patients have the modality of each direction [k], from noised sums [k] of `_lengths`."""
    lengths, counts = lengths_of(part), np.zeros(len(part))
    for number in np.unique(part):
        mine = part == number
        length = float(np.linalg.norm(lengths[mine]))
        noisy = float(there[mine] @ lengths[mine]) / length**2
        counts[mine] = max(noisy, _SURE * noise / length)
    return counts


def _map_of(study: Study) -> JointMap:
    """The map of a study's modalities, each with as many directions as its share of the signal carries."""
    parts, maps = modalities(study.problem), []
    amount = signal(plan_of(PrivateFusion("private-fusion"), study).terms) / math.sqrt(len(parts))
    for part in parts:
        size = min(max(round(share_of(settings_of(study.settings, part)) * amount), FEWEST), Prototypes.DIRECTIONS)
        maps.append(part_map(study, part).first(size))
    return JointMap.of_parts(parts, maps)


METHODS: tuple[type[PrivateMethod], ...] = (PrivateFusion,)
MODELS: tuple[type[Model], ...] = (JointDirections,)
PRIVATE_TASKS: Mapping[str, PrivateTask] = {
    "private_joint_mean": PrivateTask(private_joint_mean, {"sum": "k", "there": "k"}, _JOINT),
    "private_joint_sums": PrivateTask(
        private_joint_sums, {"sums": "ck", "gram": "g"}, {**_JOINT, "centre": "k"},
        words=lambda method, step: {"gram": "gram" in step.noise},
    ),
}  # fmt: skip
