"""Every kind of head that a graph can hold is written and answers as `medtl predict`; any other is refused in words."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from medtl_core.cli import app as cli
from medtl_core.config import settings
from medtl_core.errors import ConfigError
from medtl_core.features.spec import feature_facts, feature_spec
from medtl_core.predict.saved import save_model
from medtl_core.values import ABSENT, Packed

pytestmark = pytest.mark.usefixtures("one_torch_thread")
CLASSES = ("a", "b", "c")
LEADS = ("signal:I@100x300", "signal:II@100x300")
DICE = np.random.default_rng(5)


def saved(folder: Path, kind: str, arrays: Mapping[str, Any], config: Mapping[str, Any], **about: Any) -> Path:
    """A model of a kind on features that can be made here, as a run saves it."""
    chosen = settings({"cache": "off", **about.get("chosen", {"backbone": "table"})})
    columns = about.get("columns", ("age", "lactate"))
    spec = feature_spec(chosen, ("identity",), columns)
    facts = {"features": {**feature_facts(chosen, ("identity",)), "columns": [*columns]}}
    return save_model(Packed({**arrays}, {**config}, CLASSES, spec.fingerprint, facts), kind, folder, "made")


def told(folder: Path, to: str = "safetensors") -> dict[str, Any]:
    words = ["export", str(folder / "made"), "--to", to, "--out", str(folder / to)]
    ended = CliRunner().invoke(cli.app, words)
    assert ended.exit_code == 0, ended.exception or ended.output
    manifest: dict[str, Any] = json.loads((folder / to / "manifest.json").read_text())
    assert manifest["checked"]["cases"] == 100 and manifest["checked"]["largest_difference"] <= 1e-4
    return manifest


def network(width: int) -> dict[str, Any]:
    body, head = DICE.normal(size=(64, width)) / 9, DICE.normal(size=(3, 64))
    zeros = {"body.bias": np.zeros(64), "head.bias": DICE.normal(size=3), "mean": DICE.normal(size=width)}
    arrays = {"body.weight": body, "head.weight": head, **zeros, "scale": np.full(width, 20.0), "seen": np.ones(3)}
    return {name: array.astype(np.float32) for name, array in arrays.items()}


def metric(rule: str) -> dict[str, Any]:
    half = DICE.normal(size=(4, 4))
    means, unit = DICE.normal(size=(3, 4)), DICE.normal(size=(3, 4)) / 4
    sizes = {"mean": np.ones(4), "scale": np.full(4, 30.0), "counts": np.array([4.0, 0.0, 9.0])}
    return {"within": half @ half.T, "means": means, "directions": unit, **sizes}


HEADS = 0.01 * DICE.normal(size=(2, 3, 5))
FINDINGS = np.array([[0.02, 0, 0.01, 0, 1], [0, 0, 0, 0, -ABSENT], [-0.01, 1, 0, 0, -0.5]])
KINDS = {
    "multi-label": ({"head": FINDINGS}, {"method": "made"}),
    "table": ({"head": DICE.normal(size=(3, 5)), "centre": np.array([60.0, 1.5]), "scale": np.array([12.0, 40.0])}, {}),
    "network": (network(4), {}),
    "metric": (metric("unit"), {"shrinkage": 0.3, "rule": "unit", "temperature": 2.0}),
    "mixture": ({"heads": HEADS, "weights": np.array([0.25, 0.75])}, {"members": '["x", "y"]'}),
    "directions": (
        {"mean": np.ones(4), "scale": np.full(4, 7.0), "basis": DICE.normal(size=(4, 2)), "bias": np.zeros(3)}
        | {"weight": 3 * DICE.normal(size=(3, 2))},
        {},
    ),
    "fused": (
        {"heads": HEADS, "weights": np.array([0.5, 0.5]), "bounds": np.array([[0, 2, 1], [2, 4, 1]])},
        {"members": '["x", "y"]'},
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_a_head_of_every_kind_on_a_table_is_written(tmp_path: Path, kind: str) -> None:
    saved(tmp_path, kind, *KINDS[kind])
    manifest = told(tmp_path)
    assert [each["name"] for each in manifest["inputs"]] == ["table"]
    assert manifest["inputs"][0]["type"] == ("float64" if kind == "table" else "float32")


def test_the_other_rule_of_the_metric_and_products_of_columns_are_written(tmp_path: Path) -> None:
    saved(tmp_path / "m", "metric", metric(""), {"shrinkage": 0.3, "rule": "mahalanobis", "temperature": 0.1})
    told(tmp_path / "m")
    head = 0.001 * DICE.normal(size=(3, 8))
    saved(
        tmp_path / "p",
        "multi-label",
        {"head": head},
        {"method": "m"},
        chosen={"backbone": "table", "features": "rich+pairs"},
    )
    told(tmp_path / "p")


def test_findings_are_each_a_probability_of_its_own(tmp_path: Path) -> None:
    saved(tmp_path, "multi-label", *KINDS["multi-label"])
    manifest = told(tmp_path, "torch")
    import torch

    run = torch.export.load(tmp_path / "torch" / "model.pt2").module()
    logits, shares = run(torch.tensor([[10.0, float("nan")]]))
    expected = FINDINGS @ [10.0, 0, 0, 1, 1]
    np.testing.assert_allclose(logits[0].numpy(), expected, rtol=1e-6)
    np.testing.assert_allclose(shares[0].numpy(), 1 / (1 + np.exp(-expected)), atol=1e-7)
    assert "several" in manifest["probabilities"]


def test_a_head_on_formulas_of_signals_has_them_inside(tmp_path: Path) -> None:
    chosen = {"backbone": "signal:spectrum"}
    width = feature_spec(settings(chosen), (), LEADS).width
    head = DICE.normal(scale=0.02, size=(3, width + 1))
    saved(tmp_path, "multi-label", {"head": head}, {"method": "made"}, chosen=chosen, columns=LEADS)
    (given,) = told(tmp_path)["inputs"]
    assert (given["name"], given["type"], given["shape"]) == ("signal", "float32", ["n", 300, 2])


@pytest.mark.parametrize(
    ("kind", "chosen", "columns", "words"),
    [
        ("multi-label", {"backbone": "text:words"}, (), "text:words.*outside of any graph"),
        ("multi-label", {"backbone": "signal:lite0"}, LEADS, "signal:lite0.*medtl predict"),
        ("standardised", {"backbone": "table"}, ("age", "lactate"), "standardised.*asked beside it.*medtl predict"),
        ("attention", {"features": "4"}, (), "attention.*weighs the pictures.*medtl predict"),
    ],
)
def test_what_no_graph_can_hold_is_refused_with_reason_and_remedy(
    tmp_path: Path, kind: str, chosen: dict[str, Any], columns: tuple[str, ...], words: str
) -> None:
    width = feature_spec(settings(chosen), (), columns).width
    arrays, config = {"head": np.zeros((3, width + 1))}, {"method": "made"}
    if kind == "standardised":
        moments = {f"{one}-{two}": np.ones(width) for one in ("pooled", "target") for two in ("location", "scale")}
        arrays, config = {**arrays, **moments}, {}
    elif kind == "attention":
        wide, flat = {name: np.ones((2, width + 1)) for name in ("value", "gate")}, np.ones(width)
        arrays, config = {**arrays, **wide, "score": np.ones(2), "mean": flat, "scale": flat, "seen": np.ones(3)}, {}
    saved(tmp_path, kind, arrays, config, chosen=chosen, columns=columns)
    ended = CliRunner().invoke(cli.app, ["export", str(tmp_path / "made"), "--out", str(tmp_path / "out")])
    assert isinstance(ended.exception, ConfigError) and re.search(words, str(ended.exception))
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", ["multi-label", "signal:spectrum", "fused", "metric"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
def test_onnx_holds_findings_signals_and_pictures_that_a_case_may_lack(tmp_path: Path, kind: str) -> None:
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    if signal := kind.startswith("signal"):
        chosen, columns = {"backbone": kind}, LEADS
    elif kind == "fused":
        chosen, columns = {"backbone": "lite0+table", "features": "plain", "image-size": "64"}, ("age", "lactate")
    else:
        saved(tmp_path, kind, *KINDS[kind])
        told(tmp_path, "onnx")
        return
    width = feature_spec(settings(chosen), (), columns).width
    heads = DICE.normal(scale=0.02, size=(2, 3, width + 1))
    bounds = np.array([[0, width - 4, 0], [width - 4, width, 1]])
    arrays = {"heads": heads, "weights": np.array([0.7, 0.3]), "bounds": bounds}
    made = ("fused", arrays, {"members": '["lite0", "table"]'})
    made = ("multi-label", {"head": heads[0]}, {"method": "made"}) if signal else made
    saved(tmp_path, *made, chosen=chosen, columns=columns)
    names = [each["name"] for each in told(tmp_path, "onnx")["inputs"]]
    assert names == (["signal"] if signal else ["pixels_64", "table", "has_pixels_64"])


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "method",
    [
        "methods=lpft-last-1 tune-epochs=1",
        "methods=lora-last-1 tune-epochs=1",
        "privacy=finetune-last-1 epsilon=8 public-cases=6",
    ],
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
def test_a_fine_tuned_network_is_written_with_what_was_trained(tmp_path: Path, method: str) -> None:
    words = f"sites=2 shots=12 features=plain image-size=64 test=server bootstrap=10 {method}"
    ran = CliRunner().invoke(cli.app, ["simulate", "quickstart", *words.split(), "--out", str(tmp_path / "run")])
    assert ran.exit_code == 0, ran.exception or ran.output
    (head,) = (tmp_path / "run" / "seed-0" / "heads").glob("*.json")
    head.rename(tmp_path / "made.json")
    head.with_suffix(".safetensors").rename(tmp_path / "made.safetensors")
    told(tmp_path, "torch")
