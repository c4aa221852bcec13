"""Attention over the pictures of a case, against its formula by hand, and through the apps on slides and images."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from medtl_core.cli.app import app
from medtl_core.config import Settings
from medtl_core.errors import ConfigError, DataError, WeightsError
from medtl_core.features.dataset import Material
from medtl_core.features.spec import feature_spec
from medtl_core.federation.outcome import Problem
from medtl_core.federation.registry import answer, find_method
from medtl_core.federation.study import Study
from medtl_core.federation.tasks import SiteData
from medtl_core.methods.attention import padded
from medtl_core.methods.models import attention
from medtl_core.methods.models.attention import WIDTH, Attention, attended, initial, pictures_of
from medtl_core.values import ABSENT, Examples
from simulations.memory import MemoryHospitals
from tests.methods.pictures import SETTINGS, cases, material
from tests.slides import made

VIEWS = ("identity", "flip-h")
RNG = np.random.default_rng(0)
#: Eight scans, read as four pictures each; those of class 1 have a slice that is bright at its left.
SCANS = RNG.integers(40, 90, (8, 32, 32, 5)).astype(np.uint8)
SCANS[1::2, :, :12, 2] += 140


def scans(settings: Settings = SETTINGS) -> Material:
    columns = {"image": SCANS, "label": np.arange(8) % 2, "patient": np.arange(8).astype(str)}
    return Material(Examples(columns, cases().task), settings, VIEWS)


def hospital(own: Material | None, name: str = "a") -> SiteData:
    values, label = scans().features().values, (np.arange(8) % 2).astype(np.int64)
    patients = np.arange(8).astype(str)
    return SiteData(name, values, label, patients, values[:0], label[:0], patients[:0], 3, 0, own, None)


def study(*sites: SiteData, settings: Settings = SETTINGS) -> Study:
    spec = feature_spec(settings, VIEWS)
    problem = Problem(("x", "y", "z"), spec.fingerprint, spec.groups, VIEWS)
    return Study(MemoryHospitals(sites), problem, settings, [find_method("attention-3")])


@pytest.fixture(scope="module")
def model() -> Attention:
    asked = study(hospital(scans()), hospital(scans(), "b"), settings=SETTINGS.replace(learning_rate=0.3))
    trained = asked.outcome(asked.methods[0]).heads[""]
    assert isinstance(trained, Attention)
    return trained


def by_hand(model: Attention, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weights and logits of one case's pictures, picture by picture, from the arrays that are saved."""
    arrays = model.pack().arrays
    bags = [np.append((row - arrays["mean"]) / arrays["scale"], 1.0) for row in rows.astype(np.float64)]
    scores = [
        sum(
            float(arrays["score"][unit])
            * np.tanh(float(arrays["value"][unit].astype(float) @ bag))
            / (1.0 + np.exp(-float(arrays["gate"][unit].astype(float) @ bag)))
            for unit in range(WIDTH)
        )
        for bag in bags
    ]
    weights = np.exp(scores) / np.exp(scores).sum()
    pooled = sum(weight * bag for weight, bag in zip(weights, bags, strict=True))
    return weights, arrays["head"].astype(float) @ pooled


def test_answers_are_the_formula_and_the_order_of_pictures_changes_nothing(
    model: Attention, monkeypatch: pytest.MonkeyPatch
) -> None:
    values, rows = scans().features().values, pictures_of(scans())
    logits = model.logits(values, scans())
    assert [len(case) for case in rows] == 8 * [4]
    np.testing.assert_allclose([case.mean(axis=0) for case in rows], values, rtol=1e-5, atol=1e-4)
    for case, answered in zip(rows, logits, strict=True):
        weights, told = by_hand(model, case)
        assert weights.std() > 1e-4, "attention has learnt something"
        np.testing.assert_allclose(answered, [*told[:2], ABSENT], rtol=1e-9)
    assert (logits[:, :2].argmax(axis=1) == np.arange(8) % 2).all()
    monkeypatch.setattr(attention, "pictures_of", lambda material: [case[[2, 0, 3, 1]] for case in rows])
    np.testing.assert_allclose(model.logits(values, scans()), logits, rtol=1e-9)


def test_a_case_of_one_picture_is_weighed_one(model: Attention) -> None:
    single = material(3)
    values = single.features().values
    assert [len(case) for case in pictures_of(single)] == [1, 1, 1]
    z = (values.astype(np.float64) - model.arrays["mean"]) / model.arrays["scale"]
    head = model.arrays["head"].astype(np.float64)
    np.testing.assert_allclose(model.logits(values, single)[:, :2], (z @ head[:, :-1].T + head[:, -1])[:, :2])
    assert model.logits(values[:0], single.take(np.arange(0))).shape == (0, 3)


def test_training_reads_what_answers_read_whatever_number_of_pictures() -> None:
    rng = np.random.default_rng(1)
    bags = [np.column_stack([rng.standard_normal((count, 4)), np.ones(count)]) for count in (1, 5, 2)]
    arrays = {name: (array + rng.normal(0, 0.5, array.shape)).astype(np.float32)
              for name, array in initial(4, 2, rng=rng).items()}  # fmt: skip
    told = attended(
        {name: torch.from_numpy(array) for name, array in arrays.items()}, torch.from_numpy(padded(bags, 5))
    )
    whole = {**arrays, "mean": np.zeros(4, np.float32), "scale": np.ones(4, np.float32)}
    model = Attention(whole, np.ones(2), ("x", "y"), "print")
    for bag, row in zip(bags, told.numpy(), strict=True):
        np.testing.assert_allclose(row, by_hand(model, bag[:, :-1])[1], rtol=1e-4, atol=1e-5)
    assert [len(weights) for weights in model.weights(bags)] == [1, 5, 2]


def test_pictures_are_standardised_by_all_hospitals_moments(model: Attention) -> None:
    rows = pictures_of(scans())
    square = answer("picture_moments", hospital(scans()), {}, {}).update.arrays["square"]
    np.testing.assert_allclose(square, sum((case.astype(float) ** 2).mean(axis=0) for case in rows))
    every = np.concatenate(rows).astype(float)
    wide = np.maximum(every.std(axis=0), scans().features().values.astype(float).std(axis=0))
    np.testing.assert_allclose(model.arrays["mean"], every.mean(axis=0), rtol=1e-4)
    np.testing.assert_allclose(model.arrays["scale"], wide, rtol=1e-3, atol=1e-3)


def test_what_it_cannot_read_is_refused(model: Attention) -> None:
    values = np.zeros((1, 120), np.float32)
    with pytest.raises(DataError, match="only features are here"):
        model.logits(values)
    with pytest.raises(WeightsError, match="trained on features"):
        model.logits(values, scans(SETTINGS.replace(image_size=40)))
    with pytest.raises(DataError, match="needs the pictures"):
        answer("picture_moments", hospital(None), {}, {})
    with pytest.raises(ConfigError, match="reads more than pictures"):
        pictures_of(scans(SETTINGS.replace(backbone="lite0+table")))
    with pytest.raises(WeightsError, match="a scale is not positive"):
        Attention.unpack(
            Attention({**model.arrays, "scale": -model.arrays["scale"]}, *list(vars(model).values())[1:]).pack()
        )


@pytest.mark.slow
def test_slides_train_it_and_a_new_slide_is_answered(tmp_path: Path) -> None:
    pytest.importorskip("openslide")
    rng = np.random.default_rng(0)
    for number in range(16):
        tumour = number % 2
        picture = made.tissue(256, 768, (0, 0, 256, 768), number)
        if tumour:
            picture[:, 256:512, 1] = rng.integers(0, 255, (256, 256))
        folder = tmp_path / "data" / ("benign", "tumour")[tumour]
        folder.mkdir(parents=True, exist_ok=True)
        made.pyramid(folder / f"P{number}.tif", picture)
    words = ["simulate", "--data", str(tmp_path / "data"), "--out", str(tmp_path / "run"), "bootstrap=5", "sites=2"]
    more = ["methods=attention-3", "features=4", "image-size=32", "cache=off", "shots=0"]
    result = CliRunner().invoke(app, [*words, *more])
    assert result.exit_code == 0, result.output
    head = tmp_path / "run" / "seed-0" / "heads" / "attention-3"
    new = made.pyramid(tmp_path / "new.tif", made.tissue(256, 512, (0, 0, 256, 512), 99))
    told = CliRunner().invoke(app, ["predict", str(head), str(new)])
    assert told.exit_code == 0, told.output
    assert "benign" in told.output
    assert json.loads(head.with_suffix(".json").read_text(encoding="utf-8"))["kind"] == "attention"


def test_it_does_not_run_under_privacy() -> None:
    words = ["simulate", "quickstart", "methods=attention-3", "privacy=auto", "public-cases=4"]
    result = CliRunner().invoke(app, words)
    assert "attention-3, which is not private and does not run under privacy" in str(result.exception)
