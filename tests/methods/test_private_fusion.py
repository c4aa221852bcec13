"""Private fusion: parts of rows, how long they may be, and what follows where the sums cost nothing."""

from dataclasses import replace

import numpy as np
import pytest

from medtl_core.config import Settings
from medtl_core.errors import WeightsError
from medtl_core.federation.outcome import Problem
from medtl_core.federation.registry import find_method, unpack
from medtl_core.federation.study import Study
from medtl_core.federation.tasks import SiteData
from medtl_core.methods.models.fused import Modality
from medtl_core.methods.private.centred_sums import angles, metric_of
from medtl_core.methods.private.fusion import JointDirections, PrivateFusion, kept_share, private_joint_mean
from medtl_core.methods.private.joint_map import JointMap
from medtl_core.methods.private.planned_sums import plan_of
from medtl_core.methods.private.public_pca import public_map, side_by_side
from medtl_core.privacy.accounting import epsilon
from medtl_core.privacy.patients import PublicMap, unit
from medtl_core.rng import stream
from tests.methods.exact_hospitals import ExactHospitals

#: Notes of four columns, and two kinds of a table with three columns each.
GROUPS = (("text:words:words", 0, 4), ("table:table.clinic", 4, 10), ("table:table.gene", 10, 16))
PROBLEM = Problem(("x", "y", "z"), "features", GROUPS)
SETTINGS = Settings(backbone="text:words+table", sites=3, public_cases=60, privacy="auto", epsilon=1e5, delta=1e-3)
PARTS = (Modality("notes", 0, 2, False), Modality("table", 2, 6, True))
METHOD = find_method("private-fusion")


def drawn(name: str, tells: tuple[float, float, float], lacks: float = 0.0, cases: int = 60) -> SiteData:
    """A hospital whose notes, clinic and genes lie so far apart between classes; some lack their notes or genes."""
    rng = stream(0, "private fusion", name)
    label = rng.permutation(np.arange(cases) % 3)
    values = np.zeros((cases, 16))
    for (_, start, stop), far in zip(GROUPS, tells, strict=True):
        columns = np.arange(start, stop) if start == 0 else np.arange(start, stop, 2)
        means = far * stream(0, "means", str(start)).standard_normal((3, len(columns)))
        values[:, columns] = means[label] + rng.standard_normal((cases, len(columns))) + 0.5
    gone = rng.random((cases, 2)) < lacks
    values[gone[:, 0], :4] = 0.0
    values[gone[:, 1], 10:] = np.tile([0.0, 1.0], 3)
    wide, patients = values.astype(np.float32), np.array([f"{name}-{number}" for number in range(cases)])
    return SiteData(name, wide, label, patients, wide[:0], label[:0], patients[:0], 3, 0)


def exact(sites: list[SiteData]) -> tuple[JointDirections, list[str]]:
    hospitals = ExactHospitals(sites)
    outcome = Study(hospitals, PROBLEM, SETTINGS, (METHOD,)).outcome(METHOD)
    model = outcome.heads[""]
    assert isinstance(model, JointDirections)
    return model, [request.task for request in hospitals.asked]


def accuracy(model: JointDirections, site: SiteData) -> float:
    return float((model.logits(site.values).argmax(axis=1) == site.label).mean())


def test_parts_have_length_one_and_what_is_lacking_is_zero() -> None:
    maps = [PublicMap(np.zeros(2), np.ones(2), np.eye(2)), PublicMap(np.zeros(4), np.ones(4), np.eye(4)[:, :3])]
    joint = JointMap.of_parts(PARTS, maps)
    values = np.array([[3.0, 4.0, 0, 0, 2, 0], [0, 0, 0, 0, 2, 0], [3, 4, 0, 1, 0, 1], [0, 0, 0, 1, 0, 1]])
    rows = joint.rows(values)
    assert rows.tolist() == [[0.6, 0.8, 0, 0, 1], [0, 0, 0, 0, 1], [0.6, 0.8, 0, 0, 0], [0] * 5]
    assert joint.there(rows).astype(int).tolist() == [[1] * 5, [0, 0, 1, 1, 1], [1, 1, 0, 0, 0], [0] * 5]
    site = SiteData("n", values.astype(np.float32), np.array([0, 1, 0, 1]), np.array([*"abcd"]), *([None] * 3), 2, 0)  # type: ignore[arg-type]
    sums = private_joint_mean(site, joint.arrays, {}).update.arrays
    half = np.sqrt(0.5)
    np.testing.assert_allclose(sums["sum"], half * np.array([1.2, 1.6, 0, 0, 2]))
    np.testing.assert_allclose(sums["there"], [1, 1, *[2 * np.sqrt(1 / 6)] * 3])  # two of each: 2 / sqrt(2 k)


@pytest.mark.parametrize(
    ("noise", "kept"),
    [(0.0, [1, 1, 1, 1]), (0.5, [0.95, 0.95, 0.5, 0.5]), (1.0, [0.8, 0.8, 0, 0]), (9.0, [1, 1, 1, 1])],
)
def test_what_is_kept_of_a_modality(noise: float, kept: list[float]) -> None:
    """Energies are 20 and 2, of which noise of deviation 1 has 4 in four entries."""
    sums = np.array([[3.0, 1.0, 1.0, 0.0], [3.0, -1.0, 0.0, -1.0]])
    np.testing.assert_allclose(kept_share(sums, np.array([0.0, 0.0, 1.0, 1.0]), noise), kept)


def test_without_noise_the_head_is_that_of_the_pooled_rows() -> None:
    sites = [drawn(name, (1.5, 0.8, 0.0)) for name in "abc"]
    model, asked = exact(sites)
    assert asked == ["private_joint_mean", "private_joint_sums"]
    values, label = (np.concatenate([getattr(site, name) for site in sites]) for name in ("values", "label"))
    rows = model.map.rows(values)
    np.testing.assert_allclose(model.centre, rows.mean(axis=0), atol=1e-6)
    moved = unit(rows - rows.mean(axis=0))
    weight = angles(np.eye(3)[label].T @ moved, metric_of(moved.T @ moved, len(label), 0.0), 0.0)
    np.testing.assert_allclose(model.weight, weight, atol=1e-2)
    fresh = drawn("fresh", (1.5, 0.8, 0.0), cases=300)
    assert accuracy(model, fresh) > 0.7


def test_patients_and_hospitals_that_lack_a_modality_take_part_and_are_answered() -> None:
    sites = [drawn("a", (1.5, 1.0, 1.0), 0.4), drawn("b", (1.5, 1.0, 1.0), 1.0), drawn("c", (1.5, 1.0, 1.0))]
    model, _ = exact(sites)
    there = sum((site.values[:, :4] != 0).any(axis=1).sum() for site in sites)
    assert model.facts["patients"]["text:words"] == pytest.approx(there, rel=1e-3)
    assert model.facts["patients"]["table.clinic"] == pytest.approx(180, rel=1e-3)
    fresh = drawn("fresh", (1.5, 1.0, 1.0), 0.4, cases=300)
    assert accuracy(model, fresh) > 0.65
    shares = model.shares(fresh.values)
    np.testing.assert_allclose(shares.sum(axis=0), model.logits(fresh.values), atol=1e-12)
    assert not shares[0][~(fresh.values[:, :4] != 0).any(axis=1)].any()
    again = unpack(model.kind, model.pack())
    assert again.logits(fresh.values).tolist() == model.logits(fresh.values).tolist()
    with pytest.raises(WeightsError):
        unpack(model.kind, replace(model, centre=model.centre[:-1]).pack())


@pytest.mark.parametrize("promised", [0.5, 4.0])
@pytest.mark.parametrize("secure", [False, True])
def test_all_that_is_asked_costs_what_is_promised(promised: float, secure: bool) -> None:
    study = Study(
        ExactHospitals([drawn("a", (1, 1, 1))]), PROBLEM, SETTINGS.replace(epsilon=promised, secure_sum=secure), ()
    )
    assert isinstance(METHOD, PrivateFusion)
    plan = plan_of(METHOD, study)
    assert {name for step in plan.steps for name in step.noise} >= {"sum", "there", "sums"}
    assert epsilon(plan.events, plan.terms.delta) == pytest.approx(promised, rel=1e-3)


def test_directions_of_several_kinds_take_turns_in_one_map() -> None:
    maps = [PublicMap(np.zeros(2), np.ones(2), np.eye(2)), PublicMap(np.ones(4), np.full(4, 2.0), np.eye(4))]
    joint = side_by_side(maps).first(4)
    assert [np.flatnonzero(column).tolist() for column in joint.basis.T] == [[0], [2], [1], [3]]
    assert joint.mean.tolist() == [0, 0, 1, 1, 1, 1]
    assert joint.basis.max(axis=0) == pytest.approx([0.5**0.5, 0.5] * 2)
    study = Study(ExactHospitals([drawn("a", (1, 1, 1))]), PROBLEM, SETTINGS, ())
    assert public_map(study, 100).basis.shape == (16, 16)
