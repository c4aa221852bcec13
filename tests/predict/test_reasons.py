"""Why a head answers so: parts of columns and covered places as captum has them, and similar cases of one's own."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image

from medtl_core.cli import app as cli
from medtl_core.config import settings
from medtl_core.data.images import decode
from medtl_core.data.source import open_source
from medtl_core.data.views import square
from medtl_core.predict import Predictor
from tests.predict.heads import film, made, made_for, made_of_table

pytestmark = pytest.mark.usefixtures("one_torch_thread")


def run(*words: object) -> Result:
    return CliRunner().invoke(cli.app, ["predict", *map(str, words)])


def rows(ended: Result) -> list[dict[str, object]]:
    assert ended.exit_code == 0, ended.output
    return [json.loads(line) for line in ended.stdout.splitlines()]


def log_odds(predictor: Predictor, values: torch.Tensor, place: int) -> torch.Tensor:
    """The logit of a class less the mean of the others', from a table's features, as torch has it."""
    logits = torch.from_numpy(predictor.classifier.logits(values.detach().numpy()))
    return logits[:, place] - (logits.sum(dim=1) - logits[:, place]) / (logits.shape[1] - 1)


def told_parts(folder: Path) -> tuple[Predictor, list[dict[str, object]], torch.Tensor]:
    """A head of a table, what the command says of two rows, and their features."""
    predictor = made_of_table(folder, ("age", "pressure", "pulse"))
    (folder / "new.csv").write_text("pressure,age,pulse\n1.5,0.2,-1\n-2,,4\n")
    told = rows(run(folder / "made", folder / "new.csv", "--explain", "--format", "jsonl"))
    return predictor, told, torch.tensor([[0.2, 0, 1.5, 0, -1, 0], [0, 1, -2, 0, 4, 0]], dtype=torch.float64)


def test_parts_of_columns_add_up(tmp_path: Path) -> None:
    predictor, told, values = told_parts(tmp_path)
    for row, one in zip(told, values, strict=True):
        parts = row["parts"]
        assert isinstance(parts, dict) and sorted(parts.values(), key=abs, reverse=True) == list(parts.values())
        expected = float(log_odds(predictor, one[None], predictor.classes.index(str(row["answer"]))))
        assert sum(parts.values()) == pytest.approx(expected)  # biases are 0


def test_a_page_tells_parts_and_a_form_that_cannot_is_refused(tmp_path: Path) -> None:
    _, told, _ = told_parts(tmp_path)
    parts = told[0]["parts"]
    assert isinstance(parts, dict)
    page = run(tmp_path / "made", tmp_path / "new.csv", "--explain", "--format", "html").stdout
    assert all(f"{part:+.3f} {name}" in page for name, part in parts.items())
    assert '<span class="number">--prevalence</span>' in page
    for form in ("csv", "fhir"):
        refused = run(tmp_path / "made", tmp_path / "new.csv", "--explain", "--format", form)
        assert "take text, json, jsonl or html" in str(refused.exception)


@pytest.mark.slow
def test_parts_of_columns_are_captum_s_ablation(tmp_path: Path) -> None:
    ablation = pytest.importorskip("captum.attr", reason="captum is not installed").FeatureAblation
    predictor, told, values = told_parts(tmp_path)
    mask = torch.tensor([[0, 0, 1, 1, 2, 2]])
    for row, one in zip(told, values, strict=True):
        place, parts = predictor.classes.index(str(row["answer"])), row["parts"]
        assert isinstance(parts, dict)
        found = ablation(lambda x, place=place: log_odds(predictor, x, place)).attribute(one[None], feature_mask=mask)[
            0
        ]
        assert [parts[name] for name in ("age", "pressure", "pulse")] == pytest.approx(found[::2].tolist())


def test_ninths_of_a_picture_add_up(tmp_path: Path) -> None:
    predictor, path = made(tmp_path, features="plain", scale=0.02), film(tmp_path).path
    (row,) = rows(run(tmp_path / "made", path, "--explain", "--format", "jsonl"))
    shares, parts = row["probabilities"], row["parts"]
    assert isinstance(shares, dict) and isinstance(parts, dict) and len(parts) == 9
    assert {"upper left", "middle centre", "lower right"} <= parts.keys()
    odds = np.log([shares[name] for name in predictor.classes])  # biases are 0
    place = predictor.classes.index(str(row["answer"]))
    assert sum(parts.values()) == pytest.approx(odds[place] - np.delete(odds, place).mean(), abs=1e-3)


@pytest.mark.parametrize(
    ("data", "backbone", "part"),
    [
        ("letters", "text:words", "the"),
        ("heartbeats", "signal:spectrum", "0-5 % of the time"),
        ("bearings", "signal:spectrum", "% of the time"),
        ("phantom", "lite0", "upper left"),
        ("tissue", "lite0", "middle right"),
    ],
)
def test_every_built_in_kind_is_explained(tmp_path: Path, data: str, backbone: str, part: str) -> None:
    images = {"image-size": "64", "features": "plain"} if backbone == "lite0" else {}
    chosen = settings({"data": data, "backbone": backbone, "cache": "off", **images})
    columns = () if images else open_source(chosen).columns
    made_for(tmp_path, chosen, columns)
    told = rows(run(tmp_path / "made", data, "--explain", "--format", "jsonl"))
    assert len(told) == 8 and any(part in name for one in told for name in one["parts"])  # type: ignore[attr-defined]
    ended = run(tmp_path / "made", data, "--maps", tmp_path / "maps")
    assert ended.exit_code == 0 and len([*(tmp_path / "maps").iterdir()]) == 8


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_covered_places_are_captum_s_occlusion(tmp_path: Path) -> None:
    occlusion = pytest.importorskip("captum.attr", reason="captum is not installed").Occlusion
    predictor, path = made(tmp_path, features="plain", scale=0.02), film(tmp_path).path
    (one,) = predictor.occluder().explain(path, "normal")
    pixels = square(decode(path), 64)

    def asked(batch: torch.Tensor) -> torch.Tensor:
        places = []
        for number, image in enumerate(batch.numpy().astype(np.uint8)):
            Image.fromarray(image).save(tmp_path / f"{number}.png")
            places.append(tmp_path / f"{number}.png")
        shares = np.log([[*answer.probabilities.values()] for answer in predictor.answers(places)])
        return torch.from_numpy(shares[:, 0] - shares[:, 1:].mean(axis=1))

    colour = torch.from_numpy(pixels.mean(axis=(0, 1)).astype(np.uint8).astype(np.float64)).expand(1, 64, 64, 3)
    found = occlusion(asked).attribute(
        torch.from_numpy(pixels.astype(np.float64))[None],
        sliding_window_shapes=(8, 8, 3),
        strides=(8, 8, 3),
        baselines=colour,
        perturbations_per_eval=16,
    )
    np.testing.assert_allclose(one.parts * 64, found[0, :, :, 0].numpy(), atol=2e-4)


def test_the_command_draws_by_covering(tmp_path: Path) -> None:
    made(tmp_path, features="plain")
    ended = run(tmp_path / "made", film(tmp_path).path, "--maps", tmp_path / "maps", "--occlusion")
    assert ended.exit_code == 0 and len([*(tmp_path / "maps").iterdir()]) == 1


def test_a_head_that_learnt_nothing_is_warned_of(tmp_path: Path) -> None:
    predictor = made(tmp_path, features="plain", weight=1.0)  # every column alike: shuffling changes nothing
    assert predictor.attributor().likeness(film(tmp_path).path, "normal", rng=np.random.default_rng(0)) > 0.99
    ended = run(tmp_path / "made", film(tmp_path).path, "--maps", tmp_path / "maps")
    assert ended.exit_code == 0 and "warning" in ended.stderr
    made(tmp_path / "other", features="plain")
    other = run(tmp_path / "other" / "made", film(tmp_path).path, "--maps", tmp_path / "more")
    assert "warning" not in other.stderr


def test_the_most_similar_own_cases_are_named_with_their_classes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    made_of_table(tmp_path, ("a", "b"))
    dice = np.random.default_rng(5)
    own = np.round(dice.normal(size=(40, 2)) * [1, 1000], 3)
    lines = [f"{'xy'[k % 2]},{k},s,{a},{b}" for k, (a, b) in enumerate(own)]
    (tmp_path / "own.csv").write_text("\n".join(["label,patient_id,site,a,b", *lines]) + "\n")
    (tmp_path / "new.csv").write_text(f"a,b\n{own[7, 0]},{own[7, 1]}\n0.5,-300\n")
    told = rows(run(tmp_path / "made", tmp_path / "new.csv", "--alike", tmp_path / "own.csv", "--format", "jsonl"))
    scaled, asked = (np.asarray(each, float) for each in (own, [own[7], (0.5, -300)]))
    mean, std = scaled.mean(axis=0), scaled.std(axis=0)
    unit = [
        (each - mean) / std / np.linalg.norm((each - mean) / std, axis=1, keepdims=True) for each in (scaled, asked)
    ]
    for row, cosines in zip(told, unit[1] @ unit[0].T, strict=True):
        near = row["alike"]
        assert isinstance(near, list)
        best = np.argsort(-cosines)[:3]
        assert [one["name"] for one in near] == [f"case {place + 1}" for place in best]
        assert [one["label"] for one in near] == ["xy"[place % 2] for place in best]
        assert [one["cosine"] for one in near] == pytest.approx(cosines[best].tolist(), abs=1e-6)
    assert told[0]["alike"][0]["name"] == "case 8"  # type: ignore[index]


def test_similar_pictures_are_named_by_their_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    made(tmp_path, features="plain")
    folder = tmp_path / "own"
    for number in range(6):
        (folder / "xy"[number % 2]).mkdir(parents=True, exist_ok=True)
        film(folder / "xy"[number % 2], number, size=64)
    (row,) = rows(run(tmp_path / "made", folder / "y" / "film 3.png", "--alike", folder, "--format", "jsonl"))
    first = row["alike"][0]  # type: ignore[index]
    assert first["label"] == "y" and first["name"].endswith("film 3.png") and first["cosine"] == pytest.approx(1)
    assert settings({}).cache == ""
