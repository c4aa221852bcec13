"""LEEP and NCE from joint counts: the formulas case by case, and sources that cannot be asked."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from client.site import Node, open_site
from medtl_core.backbones.classifier import has_classifier, load_classifier
from medtl_core.backbones.zoo import find_backbone
from medtl_core.config import Settings
from medtl_core.data.phantom import phantom
from medtl_core.errors import ConfigError, DataError, WeightsError
from medtl_core.material import Material
from medtl_core.methods.model import Packed
from medtl_core.methods.outcome import Outcome, Problem
from medtl_core.methods.study import Study
from medtl_core.methods.tasks import SiteData
from medtl_core.registry import answer, read_methods, unpack
from medtl_core.transfer.leep import ExpectedEmpirical, conditional_of, nce, source_probabilities
from medtl_core.values import ABSENT
from tests.memory import DirectHospitals

CHOSEN = Settings(backbone="random:squeezenet1_1", image_size=64, views="one")
CLASSES = ("normal", "consolidation", "interstitial")


def direct_leep(theta: np.ndarray, label: np.ndarray, classes: int) -> float:
    """The authors' recipe, case by case."""
    cases, sources = theta.shape
    joint = np.zeros((classes, sources))
    for row, target in zip(theta, label, strict=True):
        joint[target] += row / cases
    marginal = joint.sum(axis=0)
    score = 0.0
    for row, target in zip(theta, label, strict=True):
        score += np.log(sum(joint[target, z] / marginal[z] * row[z] for z in range(sources)))
    return score / cases


def direct_nce(hard: np.ndarray, label: np.ndarray) -> float:
    total = 0.0
    for source in np.unique(hard):
        shares = np.bincount(label[hard == source]) / (hard == source).sum()
        total += (hard == source).mean() * sum(p * np.log(p) for p in shares if p > 0)
    return total


@pytest.fixture(scope="module")
def federation() -> DirectHospitals:
    """Three hospitals with phantom images; the last one sees one class."""
    pool = phantom(size=64, patients=60)
    by_class = [np.flatnonzero(pool["label"] == c) for c in range(3)]
    rows = {
        "a": np.concatenate([part[:4] for part in by_class]),
        "b": np.concatenate([part[4:7] for part in by_class]),
        "c": by_class[1][7:9],
    }
    sites = []
    for name, index in rows.items():
        cases = pool.take(index)
        values, none = np.zeros((len(cases), 2), dtype=np.float32), np.zeros(0, dtype=np.int64)
        material = Material(cases, CHOSEN, ("identity", "flip-h"))
        sites.append(
            SiteData(
                name, values, cases["label"], cases["patient"], values[:0], none, cases["patient"][:0], 3, 0, material
            )
        )
    return DirectHospitals(sites)


def judged(hospitals: DirectHospitals, chosen: Settings = CHOSEN) -> Outcome:
    problem = Problem(CLASSES, "features", (("4", 0, 2),), ("identity", "flip-h"))
    study = Study(hospitals, problem, chosen, read_methods("leep"))
    return study.outcome(study.methods[0])


def test_scores_equal_those_of_the_pooled_cases(federation: DirectHospitals) -> None:
    sites = [site for site in federation.sites.values() if site.material is not None]
    theta = np.concatenate([source_probabilities(site.material) for site in sites if site.material])
    label = np.concatenate([site.label for site in sites])
    facts = judged(federation).facts
    assert facts["sources"] == theta.shape[1] == 1000
    np.testing.assert_allclose(theta.sum(axis=1), 1.0, atol=1e-4)
    assert facts["scores"]["leep"] == pytest.approx(direct_leep(theta, label, 3), abs=1e-9)
    assert facts["scores"]["nce"] == pytest.approx(direct_nce(theta.argmax(axis=1), label), abs=1e-9)


def test_two_sums_leave_and_no_image_nor_answer_about_one(federation: DirectHospitals) -> None:
    federation.asked.clear()
    outcome = judged(federation)
    shapes = {request.task: [spec.shape for spec in request.expect.values()] for request in federation.asked}
    assert shapes == {"source_counts": [(3, 1000), (3, 1000)], "source_likelihood": [(3,)]}
    assert set(outcome.bill) == set(shapes)


def test_probabilities_are_those_of_the_network(federation: DirectHospitals) -> None:
    import torch

    material = federation.sites["a"].material
    assert material is not None
    backbone = find_backbone(CHOSEN.backbone)
    network, _ = load_classifier(backbone)
    pixels = torch.from_numpy(material.pixels(64)).permute(0, 3, 1, 2) / 255.0
    mean, std = (torch.tensor(value)[:, None, None] for value in (backbone.mean, backbone.std))
    with torch.no_grad():
        direct = network((pixels - mean) / std).softmax(dim=1).numpy()
    np.testing.assert_allclose(source_probabilities(material), direct, atol=1e-6)
    two = replace(material, settings=CHOSEN.replace(views="auto"))
    assert not np.allclose(source_probabilities(two), direct, atol=1e-7)
    assert source_probabilities(material.take(np.zeros(0, dtype=np.int64))).shape == (0, 1000)


def test_the_predictor_answers_by_conditional_counts_and_survives_its_packing(federation: DirectHospitals) -> None:
    model = judged(federation).heads[""]
    assert isinstance(model, ExpectedEmpirical)
    material = federation.sites["b"].material
    assert material is not None
    logits = model.logits(np.zeros((9, 2)), material)
    np.testing.assert_allclose(np.exp(logits), source_probabilities(material) @ model.conditional, rtol=1e-9)
    np.testing.assert_allclose(np.exp(logits).sum(axis=1), 1.0, atol=1e-4)
    packed = model.pack()
    again = unpack(model.kind, Packed(packed.arrays, packed.config, packed.classes, packed.fingerprint))
    np.testing.assert_array_equal(again.logits(np.zeros((9, 2)), material), logits)
    with pytest.raises(DataError, match="only features here"):
        model.logits(np.zeros((9, 2)))


def test_a_class_nobody_showed_is_never_the_answer(federation: DirectHospitals) -> None:
    conditional = np.zeros((1000, 3))
    conditional[:, 0] = 1.0
    logits = ExpectedEmpirical(conditional, CLASSES, "").logits(np.zeros((2, 2)), federation.sites["c"].material)
    assert (logits[:, 1:] == ABSENT).all()
    np.testing.assert_allclose(logits[:, 0], 0.0, atol=1e-4)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 6))
def test_nce_lies_between_minus_the_entropy_of_the_labels_and_zero(seed: int, sources: int) -> None:
    joint = np.random.default_rng(seed).integers(0, 5, (3, sources)).astype(np.float64)
    joint[0, 0] += 1
    share = joint.sum(axis=1) / joint.sum()
    entropy = -float((share[share > 0] * np.log(share[share > 0])).sum())
    assert -entropy - 1e-9 <= nce(joint) <= 0.0
    shown = joint.sum(axis=0) > 0
    np.testing.assert_allclose(conditional_of(joint)[shown].sum(axis=1), 1.0)


@pytest.mark.parametrize("conditional", [np.zeros((4, 2)), np.full((4, 3), 1.5), np.full((4, 3), np.nan), np.zeros(3)])
def test_a_damaged_predictor_is_refused(conditional: np.ndarray) -> None:
    with pytest.raises(WeightsError, match="a model 'expected-empirical'"):
        unpack("expected-empirical", Packed({"conditional": conditional}, {}, CLASSES, ""))


@pytest.mark.parametrize("backbone", ["table", "random:squeezenet1_1+random:resnet18"])
def test_a_table_or_two_backbones_have_no_source_classifier(federation: DirectHospitals, backbone: str) -> None:
    with pytest.raises(ConfigError, match="LEEP judges one image backbone at a time"):
        judged(federation, CHOSEN.replace(backbone=backbone))


def test_one_class_is_refused(federation: DirectHospitals) -> None:
    with pytest.raises(DataError, match="fewer than two classes"):
        judged(DirectHospitals([federation.sites["c"]]))


def test_a_hospital_without_a_case_adds_nothing(federation: DirectHospitals) -> None:
    site = federation.sites["a"]
    assert site.material is not None
    nobody = np.zeros(0, dtype=np.int64)
    empty = replace(
        site, name="empty", values=site.values[:0], label=nobody, patients=site.patients[:0],
        material=site.material.take(nobody),
    )  # fmt: skip
    more = judged(DirectHospitals([*federation.sites.values(), empty]))
    assert more.facts == judged(federation).facts


def test_small_cells_are_dropped_before_anything_is_counted() -> None:
    site = open_site(CHOSEN.replace(sites=3, shots=12, min_cell=4), Node("", "", 0)).data
    assert site.material is not None
    assert len(site.material) == len(site.label) == len(site.values)
    soft = answer("source_counts", site, {}, {"sources": 1000}).update.arrays["soft"].sum(axis=1)
    np.testing.assert_allclose(soft, np.bincount(site.label, minlength=3), atol=1e-4)
    assert not ((soft > 0.5) & (soft < 3.5)).any()
    assert (soft < 0.5).any()


def test_hospitals_without_images_are_refused(federation: DirectHospitals) -> None:
    bare = DirectHospitals([replace(federation.sites["a"], material=None)])
    with pytest.raises(DataError, match="only features here"):
        judged(bare)


def test_weights_without_a_classifier_are_named(federation: DirectHospitals, tmp_path: Path) -> None:
    from torchvision.models import squeezenet1_1

    whole = {name: value.contiguous() for name, value in squeezenet1_1(weights=None).state_dict().items()}
    body = {name: value for name, value in whole.items() if not name.startswith("classifier")}
    backbone = find_backbone("torchvision:squeezenet1_1")
    for name, state in (("whole", whole), ("body", body)):
        save_file(state, tmp_path / f"{name}.safetensors")
        assert has_classifier(backbone, str(tmp_path / f"{name}.safetensors")) is (name == "whole")
    chosen = CHOSEN.replace(backbone=backbone.name, weights=str(tmp_path / "body.safetensors"))
    with pytest.raises(WeightsError, match="come without their classifier"):
        judged(federation, chosen)
    network, classes = load_classifier(backbone, str(tmp_path / "whole.safetensors"))
    assert classes == 1000 and not any(value.requires_grad for value in network.parameters())
