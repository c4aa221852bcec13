"""An exported file answers as `medtl predict` does, in another program; the card of a run says what the run says."""

import hashlib
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from safetensors.numpy import load_file

from medtl_core.cli import app as cli
from medtl_core.data.images import decode
from medtl_core.data.views import VIEWS
from medtl_core.errors import WeightsError
from medtl_core.export import write as writing
from medtl_core.export.card import card
from medtl_core.predict import Predictor
from tests.predict.heads import film, made, made_of_table

pytestmark = pytest.mark.usefixtures("one_torch_thread")
ROOT = Path(__file__).resolve().parents[2]
RUN = Path(__file__).with_name("quickstart")


def exported(folder: Path, kind: str) -> Path:
    words = ["export", str(folder / "made"), "--to", kind, "--out", str(folder / "out")]
    ended = CliRunner().invoke(cli.app, words)
    assert ended.exit_code == 0, ended.output
    return folder / "out"


def softmax(logits: np.ndarray) -> np.ndarray:
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(shares / shares.sum(axis=1, keepdims=True))


def test_a_table_head_s_arrays_and_manifest_are_enough_to_answer(tmp_path: Path) -> None:
    predictor = made_of_table(tmp_path, ("a", "b"))
    out = exported(tmp_path, "safetensors")
    manifest, arrays = json.loads((out / "manifest.json").read_text()), load_file(out / "model.safetensors")
    assert manifest["sha256"] == hashlib.sha256((out / "model.safetensors").read_bytes()).hexdigest()
    assert (manifest["columns"], manifest["classes"]) == (["a", "b"], list(predictor.classes))
    (tmp_path / "new.csv").write_text("b,a\n1.5,0.2\n,3\n")
    rows = np.asarray([[0.2, 0, 1.5, 0], [3, 0, 0, 1]], np.float32).astype(np.float64)
    expected = softmax(rows @ arrays["head.weight"].T + arrays["head.bias"])
    for answer, shares in zip(predictor.answers([tmp_path / "new.csv"]), expected, strict=True):
        np.testing.assert_allclose([*answer.probabilities.values()], shares, atol=1e-9)


def test_a_file_that_answers_otherwise_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    predictor = made_of_table(tmp_path, ("a", "b"))
    other, answers = made_of_table(tmp_path / "other", ("a", "b"), seed=9), Predictor.answers
    monkeypatch.setattr(Predictor, "answers", lambda self, cases: answers(other, cases))
    with pytest.raises(WeightsError, match="differ"):
        writing.write(predictor, "safetensors", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("words", [["--to", "onix"], ["--to", "safetensors"]])
def test_an_unknown_form_or_a_folder_in_use_is_refused(tmp_path: Path, words: list[str]) -> None:
    made_of_table(tmp_path, ("a",))
    (tmp_path / "out").mkdir()
    told = CliRunner().invoke(cli.app, ["export", str(tmp_path / "made"), "--out", str(tmp_path / "out"), *words])
    assert told.exit_code == 1 and [*(tmp_path / "out").iterdir()] == []


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
def test_onnx_answers_from_a_picture_s_pixels(tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    predictor, path = (
        made(tmp_path, views=tuple(VIEWS)[:8], scale=0.02),
        film(tmp_path).path,
    )
    out = exported(tmp_path, "onnx")
    (told,) = json.loads((out / "manifest.json").read_text())["inputs"]
    pixels = np.asarray(Image.fromarray(decode(path)).resize(told["shape"][1:3], Image.Resampling.BILINEAR))
    session = onnxruntime.InferenceSession(str(out / "model.onnx"), providers=["CPUExecutionProvider"])
    (shares,) = session.run(["probabilities"], {told["name"]: pixels[None]})
    (answer,) = predictor.answers([path])
    np.testing.assert_allclose(shares[0], [*answer.probabilities.values()], atol=1e-4)
    assert 0.01 < shares.max() < 0.999


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", ["onnx", "torch"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
def test_several_sizes_and_a_table_go_through_the_same_check(tmp_path: Path, kind: str) -> None:
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    made(tmp_path, features="plain", image_size="64+96", scale=0.02)
    told = json.loads((exported(tmp_path, kind) / "manifest.json").read_text())
    assert [each["name"] for each in told["inputs"]] == ["pixels_64", "pixels_96"]
    assert told["checked"]["cases"] == 100 and told["checked"]["largest_difference"] <= 1e-4
    made_of_table(tmp_path / "table", ("a", "b"))
    exported(tmp_path / "table", kind)


def test_the_card_of_the_quickstart_run_is_the_one_in_the_documents() -> None:
    ended = CliRunner().invoke(cli.app, ["card", str(RUN)])
    assert ended.output == (ROOT / "docs" / "model-card.md").read_text(encoding="utf-8")


def test_the_report_of_the_quickstart_run_is_the_one_in_the_documents(tmp_path: Path) -> None:
    shutil.copytree(RUN, tmp_path / "run")
    ended = CliRunner().invoke(cli.app, ["report", str(tmp_path / "run")])
    assert ended.exit_code == 0, ended.output
    page = (tmp_path / "run" / "report.html").read_bytes()
    assert page == (ROOT / "docs" / "report-example.html").read_bytes()
    assert b"<img" not in page and str(tmp_path).encode() not in page  # no picture of anybody, no place


def test_a_card_says_what_the_run_says_and_names_what_it_cannot() -> None:
    text, record = card(RUN), json.loads((RUN / "seed-0" / "result.json").read_text())
    auto = record["methods"]["auto"]
    for name in ("balanced_accuracy", "auroc", "ece"):
        assert f"{auto['figures'][name]:.3f}" in text and f"type: {name}, value: {auto['figures'][name]:.6f}" in text
    assert json.loads((RUN / "seed-0" / "heads" / "auto.json").read_text())["sha256"] in text
    assert record["versions"]["commit"] in text and record["features"]["fingerprint"] in text
    for what in ("Intended use", "Ethics approval", "Subgroups", "Reference standard"):
        assert re.search(rf"{what}.*to be filled in by", text)
    assert "/tmp" not in text


#: Items of TRIPOD+AI (Collins et al., BMJ 2024) and headings of Model Facts (Sendak et al., 2020) -> where the card has
#: them. Title, abstract and interpretation are a paper's; what stands for them here is named all the same.
ITEMS = {
    "1 title": "# quickstart",
    "2 abstract": "A head of method",
    "3a rationale": "Why it is needed",
    "3b target population, pathway, users": "Target population.*Intended users",
    "3c inequalities": "inequalities in health",
    "4 objectives": "that tells",
    "5 data, dates": "Dates, setting",
    "6 participants": "inclusion and exclusion, treatments",
    "7 preparation": "Preparation before",
    "8 outcome": "Reference standard.*blind to what",
    "9 predictors": "What the images show",
    "10 sample size": "Sample size and its reason",
    "11 missing data": "Missing values",
    "12 methods": "Split.*Backbone, layers",
    "12d clusters": "Mean of hospitals",
    "12f updating": "Updates",
    "13 imbalance": "Classes of unequal size",
    "14 fairness": "Fairness",
    "15 output": "a probability of each class",
    "16 training and evaluation": "differs between training",
    "17 ethics": "Ethics approval",
    "18 open science": "registration, protocol, funding, conflicts.*Availability of the data",
    "19 involvement": "patients and the public",
    "20 flow": "Training cases.*Test cases",
    "21 numbers": "class . cases",
    "22 specification": "SHA-256",
    "23 performance": "interval",
    "24 updates": "Updates",
    "25 interpretation": "mean for patients",
    "26 limits": "## Limits",
    "27a poor input": "cannot be read",
    "27b users": "must know",
    "27c next": "studied next",
    "facts: locale, version, contact": "Contact, owner, date of release",
    "facts: benefit": "Expected benefit",
    "facts: warnings": "Not to be used for",
    "facts: generality": "another device, other patients",
    "facts: stop": "when to stop using it",
    "facts: in use": "Evaluation in use",
}


def test_every_item_of_the_checklists_has_its_place_or_its_named_blank() -> None:
    text = card(RUN)
    assert [item for item, words in ITEMS.items() if not re.search(words, text, re.DOTALL)] == []


def test_names_in_a_card_are_text(tmp_path: Path) -> None:
    text = (RUN / "seed-0" / "result.json").read_text()
    (tmp_path / "seed-0").mkdir()
    spoilt = text.replace("phantom-a", "<script>|x").replace('"normal"', '"no|rm<b>al"')
    (tmp_path / "seed-0" / "result.json").write_text(spoilt)
    told = card(tmp_path, "a: [b]\n---")
    assert "<script>" not in told and "<b>" not in told
    rows = [line for line in told.splitlines() if line.startswith("| no")]
    assert rows and all(row.count("|") == 8 for row in rows)
