"""Private fusion: prototypes of several modalities, each as loud as a first, paid round says that it should be.

Every modality has directions of its own (`joint_map`), and noised releases sum them side by side: so patients who lack
one take part. A patient's row has length one, however many modalities share it, and noise costs the more the shorter a
part is. So how long each part may be is read from a first noised release of class sums, whose price is part of the
plan and of every ledger; it may be nothing. No case is cross-validated: that would be a release of its own.
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
from medtl_core.values import Array, Update

#: What every request brings: `joint_map.JointMap`.
_JOINT = {**MAP, "of": "d", "absent": "d", "part": "k"}
#: Share of the squared budget of the class sums that say how long each modality's part may be.
LENGTHS = 0.10
#: Deviations of the noise that a count of patients is at least: a centre divided by fewer lies anywhere.
_SURE = 3.0


def private_joint_mean(site: SiteData, arrays: Arrays, config: Config) -> Bounded:
    """Sum [k] and class sums [C, k] of the patients' rows over sqrt M, and [k] who has what: 1 / sqrt M for each part.

    Guarantee:
        Unit: patient; add or remove one. Sensitivity 1 each: a row has M parts of length at most 1 / sqrt M. Public:
        map and classes.
    """
    map_, patients = _patients(site, arrays)
    rows = patients.rows * map_.share
    counted = map_.there(rows) * lengths_of(map_.part)
    sums = {"sum": rows.sum(axis=0), "classes": patients.onehot(site.classes).T @ rows, "there": counted.sum(axis=0)}
    return Bounded(Update(sums), dict.fromkeys(sums, 1.0))


def private_joint_sums(site: SiteData, arrays: Arrays, config: Config) -> Bounded:
    """Class sums [C, k] of centred rows of length one, and with `config["gram"]` their packed Gram matrix.

    Each direction counts as `length` [k] says. What a patient lacks stays zero.

    Guarantee:
        Unit: patient; add or remove one. Sensitivity 1 of each, as in `centred_sums.private_sums`: a row is brought to
        length one at last. Public: centre and lengths, made of the private release of the first round.
    """
    map_, patients = _patients(site, arrays)
    moved = (patients.rows - arrays["centre"].astype(np.float64)) * arrays["length"]
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
    """Two-round prototypes of several modalities, each as long in a patient's row as it tells classes apart.

    Guarantee:
        See PrivateMethod. Two releases: mean, class sums and who has what, of which the lengths are made; class sums
        and, where the budget carries it, the Gram matrix of centred rows of these lengths.
    """

    syntax: ClassVar[str] = "private-fusion"
    example: ClassVar[str] = "private-fusion"
    summary: ClassVar[str] = "private: prototypes of several modalities, each as loud as it tells classes apart"

    def plan(self, terms: Terms) -> Plan:
        """See PrivateMethod."""
        gram = {"gram": GRAM} if signal(terms) >= GRAM_FROM else {}
        first = sharing(terms, "private_joint_mean", {"sum": MEAN, "classes": LENGTHS, "there": COUNT})
        rest = 1 - MEAN - LENGTHS - COUNT - sum(gram.values())
        second = sharing(terms, "private_joint_sums", {"sums": rest, **gram})
        return Plan(self.name, terms, (first, second))

    def outcome(self, study: Study) -> Outcome:
        """See Method."""
        plan, problem, public = plan_of(self, study), study.problem, study.once("joint", lambda: _map_of(study))
        size, noise = len(public.part), plan.deviations(0)
        shapes: dict[str, tuple[int, ...]] = {"sum": (size,), "classes": (len(problem.classes), size), "there": (size,)}
        first = noised_sum(study, self, 0, public.arrays, shapes)
        patients = _counted(public.part, first["there"], noise["there"])
        centre = first["sum"] / (patients * public.share)
        length = told_apart(first["classes"], centre, public.part, noise["classes"])
        live, weight = length > 0, np.zeros((len(problem.classes), size))  # what is not heard is not asked for
        sent = {**public.only(live).arrays, "centre": centre[live], "length": length[live]}
        weight[:, live] = self._weight(study, sent, float(patients.max())) * length[live]
        members = tuple(part.name for part in modalities(problem))
        each = [int(np.flatnonzero(public.part == number)[0]) for number in public.numbers]
        facts = {
            "epsilon": plan.terms.epsilon, "delta": plan.terms.delta, "directions": size,
            "lengths": dict(zip(members, length[each].tolist(), strict=True)),
            "patients": dict(zip(members, patients[each].tolist(), strict=True)),
        }  # fmt: skip
        model = JointDirections(members, public, centre, weight, problem.classes, problem.fingerprint, facts)
        return Outcome({"": model}, bill_of(self, study), 0.0, facts)

    def _weight(self, study: Study, sent: Mapping[str, Array], patients: float) -> Float:
        """The head [C, k] on centred rows, from the second release."""
        size, noise = len(sent["part"]), plan_of(self, study).deviations(1)
        gram: dict[str, tuple[int, ...]] = {"gram": (size * (size + 1) // 2,)} if "gram" in noise else {}
        shapes = {"sums": (len(study.problem.classes), size), **gram}
        second = noised_sum(study, self, 1, sent, shapes, config={"gram": bool(gram)})
        metric = metric_of(unpacked(second["gram"], size), patients, noise["gram"]) if gram else np.eye(size)
        return angles(second["sums"], metric, noise["sums"])


def told_apart(sums: Float, centre: Float, part: Float, noise: float) -> Float:
    """Returns how long each direction's part should be [k], at most 1: as its energy between classes is to the largest.

    The energy is that of class sums [C, k] across the centre [k] of the modality, less what noise of a deviation in an
    entry has of it and a standard error of that; where nothing is left of any, the likeliest one counts alone. In a sum
    that is mostly noise, what a part tells grows as its squared length times the square of its energy, so that equal
    lengths would waste most of the budget (docs/privacy.md, "Several modalities").
    """
    numbers, excess, error = np.unique(part), list[float](), list[float]()
    for number in numbers:
        mine = part == number
        along = centre[mine] / max(float(np.linalg.norm(centre[mine])), 1e-12)
        across = sums[:, mine] - np.outer(sums[:, mine] @ along, along)
        entries = len(sums) * max(int(mine.sum()) - 1, 1)
        excess.append(float((across**2).sum()) - noise**2 * entries)
        error.append(noise**2 * math.sqrt(2.0 * entries))
    energy = np.maximum(np.subtract(excess, error), 0.0)
    energy = energy / energy.max() if energy.any() else np.arange(len(numbers)) == int(np.argmax(excess))
    return np.asarray(energy[np.searchsorted(numbers, part)], np.float64)


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
    "private_joint_mean": PrivateTask(private_joint_mean, {"sum": "k", "classes": "ck", "there": "k"}, _JOINT),
    "private_joint_sums": PrivateTask(
        private_joint_sums, {"sums": "ck", "gram": "g"}, {**_JOINT, "centre": "k", "length": "k"},
        words=lambda method, step: {"gram": "gram" in step.noise},
    ),
}  # fmt: skip
