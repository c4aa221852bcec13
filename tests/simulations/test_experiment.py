"""A whole simulation with the real apps on tiny data: what it writes, and how it fails."""

import json
from pathlib import Path

import pytest

from medtl_core.cli.simulate import simulate
from medtl_core.config import settings
from medtl_core.errors import ConfigError, DataError, RunError
from medtl_core.flower.run import RunPlan
from medtl_core.predict.saved import load_head
from simulations.experiments import ROOT
from simulations.tables import table


def plan(out: Path, values: dict[str, object], seeds: int = 1, workers: int = 1, **changes: object) -> RunPlan:
    chosen = settings({"methods": "discriminant", "bootstrap": 20, **values, **changes})  # type: ignore[dict-item]
    return RunPlan(chosen, seeds, workers, False, out, ROOT, "tiny")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """Settings of three hospitals with images, whose features are kept."""
    small = {"data": "phantom", "sites": 3, "shots": 12, "image-size": 32, "features": "4", "views": "one"}
    return {**small, "cache": str(tmp_path_factory.mktemp("cache"))}


def test_a_run_leaves_results_heads_metrics_and_a_report(tmp_path: Path, images: dict[str, object]) -> None:
    methods = "local,ridge,discriminant,fedavg-2,ensemble-weighted"
    events: list[dict] = []
    run = tmp_path / "run"
    metrics = simulate(plan(run, images, seeds=2, methods=methods), lambda event: events.append(dict(event))).as_dict()
    assert list(metrics["methods"]) == methods.split(",")
    assert all(0 <= found["balanced_accuracy"]["mean"] <= 1 for found in metrics["methods"].values())
    assert json.loads((run / "metrics.json").read_text())["methods"].keys() == metrics["methods"].keys()
    page = (run / "report.html").read_text()
    assert "not a medical device" in page
    assert "://" not in page.replace("http://www.w3.org/2000/svg", "")
    head = load_head(run / "seed-0" / "heads" / "discriminant.safetensors")
    assert head.classes == ("normal", "consolidation", "interstitial")
    assert {event["kind"] for event in events} >= {"phase", "site", "seed"}
    assert table(metrics).count("\n") == 1 + len(metrics["methods"])
    costs = json.loads((run / "seed-0" / "result.json").read_text())["methods"]
    assert [costs[name]["cost"]["rounds"] for name in ("discriminant", "fedavg-2")] == [2, 3]
    assert costs["fedavg-2"]["cost"]["bytes_up"] < costs["ridge"]["cost"]["bytes_up"]


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"methods": "discriminent"}, ConfigError, "did you mean 'discriminant'"),
        ({"shotz": 3}, ConfigError, "did you mean 'shots'"),
        ({"features": "44"}, ConfigError, "no tap '44'"),
        ({"backbone": "torchvision:resnet18", "features": "rich"}, Exception, "resnet18"),
        ({"test": "sites", "methods": "ensemble-local"}, ConfigError, "needs labelled cases at the server"),
        ({"data-path": "/nowhere/at/all"}, DataError, "does not exist"),
        # every class has fewer cases than the hospitals are willing to show: none can join
        ({"min-cell": 1000}, RunError, "quorum"),
    ],
)
def test_bad_input_is_one_clear_error_and_the_run_says_failed(
    tmp_path: Path, images: dict[str, object], changes: dict, error: type[Exception], message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    for name in ("TORCH_HOME", "HF_HOME"):
        monkeypatch.setenv(name, str(tmp_path / "empty"))
    out = tmp_path / "run"
    with pytest.raises(error, match=message):
        simulate(plan(out, images, **changes))
    left = {path.name for path in out.rglob("*") if path.is_file()} if out.exists() else set()
    assert not left & {"metrics.json", "report.html", "result.json"}
    assert not left or "FAILED" in left
    assert error is not RunError or "quorum" in (out / "FAILED").read_text()
