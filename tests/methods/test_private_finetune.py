"""Private fine-tuning of a backbone's last blocks: its sums, its descent and its model."""

import math
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medtl_core.errors import ConfigError, DataError, PrivacyError, WeightsError
from medtl_core.evaluation.calibration import softmax
from medtl_core.features.dataset import Material
from medtl_core.federation.registry import find_method
from medtl_core.federation.study import Study
from medtl_core.federation.tasks import SiteData
from medtl_core.methods.finetune.activations import tuned_features
from medtl_core.methods.private.block import open_blocks, placed, start_of
from medtl_core.methods.private.block_model import Blocked
from medtl_core.methods.private.block_sum import BLOCK_RATE, DRIFT, PRIVATE_TASKS, UNIT, block_rate, private_block
from medtl_core.methods.private.clipped_gradient import CLIP, RATE
from medtl_core.methods.private.finetune import PrivateFineTune
from medtl_core.privacy.accounting import mu_for
from medtl_core.privacy.patients import PublicMap
from medtl_core.privacy.plan import Terms
from medtl_core.values import Array, Examples
from tests.methods.exact_hospitals import ExactHospitals
from tests.methods.pictures import SETTINGS, VIEWS, cases, make_site, make_study, material

PRIVATE = SETTINGS.replace(
    sites=2, public_cases=6, privacy="auto", epsilon=1e5, delta=1e-3, public_images="phantom", partition="even"
)


pytestmark = pytest.mark.usefixtures("one_torch_thread")


def method(name: str) -> PrivateFineTune:
    found = find_method(name)
    assert isinstance(found, PrivateFineTune)
    return found


def exact_study(name: str, sites: tuple[int, ...] = (12, 9)) -> Study:
    """Hospitals whose patients have one image each, of the finding it shows; no noise."""
    study = make_study(name, settings=PRIVATE, sites=sites)
    own = [
        replace(site, label=site.material.examples["label"], patients=np.arange(len(site.label)).astype(str))
        for site in study.hospitals.sites.values()  # type: ignore[attr-defined]
    ]
    return Study(ExactHospitals(own), replace(study.problem, public=public()), study.settings, study.methods)


@lru_cache(maxsize=1)
def public() -> PublicMap:
    """Mean, deviation and directions of the phantom's last images, in the place of public ones."""
    values = make_site("public", 20, 28).values.astype(np.float64)
    mean, scale = values.mean(axis=0), values.std(axis=0) + 1e-6
    return PublicMap(mean, scale, np.linalg.svd((values - mean) / scale, full_matrices=False)[2].T)


def message(seed: int = 0, *, length: float = 1.0) -> dict[str, Array]:
    """A map, blocks at their start and some head."""
    rng = np.random.default_rng(seed)
    map_ = {"mean": rng.standard_normal(120) * 0.1, "scale": rng.uniform(0.5, 2.0, 120)}
    head = {"head.weight": length * rng.standard_normal((3, 4)), "head.bias": length * rng.standard_normal(3)}
    start = start_of(open_blocks(SETTINGS, VIEWS, "last"))
    basis = np.linalg.qr(rng.standard_normal((120, 4)))[0]
    return {**map_, "basis": basis, "weights": np.array([0.25, 1.0, 0.5]), **start, **head}


def config(number: int = 1) -> dict[str, Any]:
    return {"scope": "last", "round": number}


# --- the name and the plan


def test_a_name_says_scope_and_rounds() -> None:
    assert (method("private-finetune-last3-12").scope, method("private-finetune-last3-12").rounds) == ("last3", 12)
    for wrong in ("private-finetune-last-0", "private-finetune-all-2", "private-finetune-head-2"):
        with pytest.raises(ConfigError, match="unknown method"):
            find_method(wrong)


def test_noise_moves_no_number_of_the_block_far() -> None:
    plan = method("private-finetune-last-4").plan
    few = Terms(2.0, 1e-5, hospitals=10, colluders=1, cases=30, width=40, classes=3, secure=True)
    noise = math.sqrt(4 / 0.9) / mu_for(2.0, 1e-5) * math.sqrt(10 / 9)  # of one round's sum
    assert block_rate(plan(few), 300.0) * UNIT * noise * math.sqrt(4) / 300.0 == pytest.approx(DRIFT)
    assert block_rate(plan(replace(few, secure=False)), 300.0) < 0.4 * block_rate(plan(few), 300.0)
    assert block_rate(plan(replace(few, epsilon=100.0)), 3000.0) == BLOCK_RATE


# --- the sums


@lru_cache(maxsize=1)
def images() -> np.ndarray:
    """The phantom's images, and an adversary's: black, white, chequered, noise."""
    blank, known = np.zeros((1, 32, 32), np.uint8), cases()["image"][:16]
    board = (255 * (np.indices((1, 32, 32)).sum(axis=0) % 2)).astype(np.uint8)
    noise = np.random.default_rng(0).integers(0, 256, (4, 32, 32), dtype=np.uint8)
    made = np.concatenate([blank, blank + np.uint8(255), board, noise])
    return np.concatenate([known, np.broadcast_to(made[..., None], (*made.shape, known.shape[-1]))])


def pictured(rows: np.ndarray, patients: np.ndarray, label: np.ndarray) -> SiteData:
    """A hospital that holds these of `images`; its agreed features are of no interest here."""
    columns = {
        "label": label, "patient": patients, "site": np.full(len(rows), "north"), "split": np.full(len(rows), "train"),
        "image": images()[rows],
    }  # fmt: skip
    own = Material(Examples(columns, cases().task), SETTINGS, VIEWS)
    values, nobody = np.zeros((len(rows), 120), np.float32), np.zeros(0, np.int64)
    return SiteData(
        "north", values, label, patients, values[:0], nobody, patients[:0], 3, 0, own, own.take(nobody)
    )  # fmt: skip


@settings(max_examples=4, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), length=st.sampled_from([0.0, 1.0, 1e3]), extra=st.integers(1, 4))
def test_one_patient_moves_a_sum_by_the_clip_at_most(seed: int, length: float, extra: int) -> None:
    rng = np.random.default_rng(seed)
    count = int(rng.integers(3, 9))
    rows, label = rng.integers(len(images()), size=count + extra), rng.integers(3, size=count + extra)
    patients = np.array([f"p{row // 2}" for row in range(count)] + extra * ["a-new" if seed % 2 else "zz-last"])
    sent, told = message(seed, length=length), config(int(rng.integers(1, 5)))
    with_ = private_block(pictured(rows, patients, label), sent, told)
    without = private_block(pictured(rows[:count], patients[:count], label[:count]), sent, told)
    far = np.linalg.norm(with_.update.arrays["gradient"] - without.update.arrays["gradient"])
    assert far <= CLIP * (1 + 1e-9)
    assert with_.sensitivity == without.sensitivity == {"gradient": CLIP}
    if length == 1e3:
        assert far > 0.2 * CLIP or far < 1e-6  # used up, unless the case is right with certainty


def test_rounds_look_at_one_view_after_another_however_many_cases_pass_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    site, sent = make_site("north", 7), message()
    views = [private_block(site, sent, config(number)).update.arrays["gradient"] for number in (1, 2)]
    assert not np.allclose(*views)
    for number, cases_at_once in ((3, 1), (4, 3)):
        monkeypatch.setattr("medtl_core.methods.private.block_sum.ROOM", cases_at_once * len(views[0]))
        again = private_block(site, sent, config(number)).update.arrays["gradient"]
        np.testing.assert_allclose(again, views[number - 3], rtol=1e-9, atol=1e-15)


def test_nobody_gives_zeros_and_a_single_patient_a_gradient_of_at_most_the_clip() -> None:
    rows = np.arange(3)
    alone = private_block(pictured(rows, np.full(3, "p"), rows), message(), config()).update.arrays["gradient"]
    assert 0 < np.linalg.norm(alone) <= CLIP * (1 + 1e-9)
    nobody = private_block(pictured(rows[:0], np.full(0, "p"), rows[:0]), message(), config()).update.arrays["gradient"]
    assert nobody.shape == alone.shape
    assert not nobody.any()


def test_a_request_is_admitted_with_the_blocks_of_the_methods_own_scope_only() -> None:
    site, task, chosen = make_site("north", 6), PRIVATE_TASKS["private_block"], method("private-finetune-last-1")
    step = chosen.plan(Terms(2.0, 1e-5, 3, 1, 30, 80, 3, False)).steps[1]
    sent = {**message(), "head.bias": np.zeros(3)}
    shapes = task.admit(site, sent, {"scope": "last"}, chosen, step)
    assert shapes == {"gradient": private_block(site, sent, config()).update.arrays["gradient"].shape}
    for arrays, told in (
        (sent, {"scope": "last2"}),
        (sent, {}),
        ({**sent, "units.0.conv_pwl.bias": np.zeros(41)}, {"scope": "last"}),
        ({**sent, "units.0.conv_pwl.bias": np.full(40, np.inf)}, {"scope": "last"}),
        ({**sent, "weights": np.full(3, 1.5)}, {"scope": "last"}),
        ({**sent, "units.1.conv_pwl.bias": np.zeros(40)}, {"scope": "last"}),
    ):
        with pytest.raises(PrivacyError):
            task.admit(site, arrays, told, chosen, step)


def test_without_images_and_under_other_arrays_there_is_no_sum() -> None:
    site = make_site("north", 6)
    with pytest.raises(DataError, match="'north' holds features only"):
        private_block(replace(site, material=None), message(), config())
    with pytest.raises(WeightsError, match="not those of the blocks"):
        private_block(site, message(), {"scope": "last2", "round": 1})


# --- the descent


def test_one_round_by_hand() -> None:
    study = exact_study("private-finetune-last-1")
    model = study.outcome(find_method("private-finetune-last-1")).heads[""]
    start = start_of(open_blocks(SETTINGS, VIEWS, "last"))
    sites = study.hospitals.sites.values()  # type: ignore[attr-defined]
    counts = np.sum([np.bincount(site.label, minlength=3) for site in sites], axis=0)
    assert len(set(counts)) > 1
    weights, head = np.sqrt(counts.min() / counts), np.zeros((3, model.map.basis.shape[1]))
    arrays = {**model.map.arrays, **start, "weights": weights, "head.bias": np.log(weights * counts)}
    arrays["head.weight"] = head
    slope = np.sum([private_block(site, arrays, config()).update.arrays["gradient"] for site in sites], axis=0)
    assert np.abs(slope[: -head.size]).max() == 0.0  # a head of zeros passes nothing back
    assert all(np.array_equal(model.arrays[name], array) for name, array in start.items())
    moved = -RATE * slope[-head.size :] / float(weights @ counts)
    np.testing.assert_allclose(model.arrays["head.weight"].ravel(), moved, rtol=1e-9)


@pytest.mark.slow
def test_every_tensor_of_the_blocks_moves_and_the_loss_falls(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "private-finetune-last2-3"
    monkeypatch.setattr("medtl_core.methods.private.block_sum.BLOCK_RATE", 0.5)  # the full step swings on 21 images
    study, chosen = exact_study(name), method(name)
    outcome = study.outcome(chosen)
    model = outcome.heads[""]
    start = start_of(open_blocks(SETTINGS, VIEWS, chosen.scope))
    assert all((model.arrays[key] != array).any() for key, array in start.items())
    assert outcome.facts["parameters"] == sum(array.size for array in model.arrays.values())
    tasks = [request.task for request in study.hospitals.asked]  # type: ignore[attr-defined]
    assert tasks == ["private_counts"] + chosen.rounds * ["private_block"]
    first = study.outcome(replace(chosen, rounds=1, name="private-finetune-last2-1")).heads[""]
    assert mean_loss(model, study) < mean_loss(first, study)


def mean_loss(model: Any, study: Study) -> float:
    """Log-loss in which every class weighs the same."""
    sites = study.hospitals.sites.values()  # type: ignore[attr-defined]
    logits = np.concatenate([model.logits(site.values, site.material) for site in sites])
    label = np.concatenate([site.label for site in sites])
    loss = -np.log(softmax(logits)[np.arange(len(label)), label])
    return float(np.mean([loss[label == number].mean() for number in range(3)]))


# --- the model


def blocked() -> Blocked:
    sent = message(3)
    del sent["weights"], sent["head.bias"]
    map_ = PublicMap(sent.pop("mean"), sent.pop("scale"), sent.pop("basis"))
    fingerprint = make_study("ridge").problem.fingerprint
    return Blocked(map_, sent, "last", ("x", "y", "z"), fingerprint, {"epsilon": 4.0})


def test_a_model_is_blocks_map_and_head_and_reads_images_of_its_own_features() -> None:
    model, site = blocked(), make_site("north", 4)
    own = {name: array for name, array in model.arrays.items() if name.startswith("units")}
    body = open_blocks(SETTINGS, VIEWS, "last")
    rows = model.map.rows(tuned_features(body, site.material, placed(body, own)))  # type: ignore[arg-type]
    found = model.logits(site.values, site.material)
    np.testing.assert_allclose(found, rows @ model.arrays["head.weight"].T, rtol=1e-12)
    with pytest.raises(DataError, match="only features are here"):
        model.logits(site.values)
    with pytest.raises(WeightsError, match="use the backbone, features, image-size"):
        model.logits(site.values, material(4, SETTINGS.replace(image_size=64)))


def test_what_private_block_saved_with_groupnorm_is_not_read() -> None:
    with pytest.raises(WeightsError, match="retired"):
        Blocked.unpack(replace(blocked().pack(), config={"blocks": 1, "group": True}))
