"""A whole simulation with the real apps on tiny synthetic images: what it writes, and how it fails."""

import json
from pathlib import Path

import numpy as np
import pytest

from medtl_core.cli.simulate import simulate
from medtl_core.config import settings
from medtl_core.errors import ConfigError, DataError, RunError
from medtl_core.federation.saved import load_head
from medtl_core.flower.run import RunPlan
from simulations.tables import table

ROOT = Path(__file__).resolve().parents[2]
SMALL = {"data": "phantom", "sites": 3, "shots": 12, "image-size": 32, "features": "4", "bootstrap": 20}
METHODS = "local,ridge,discriminant,fedavg-2,auto,scaffold-2,ensemble-local,ensemble-weighted"


def plan(out: Path, cache: Path, seeds: int = 1, workers: int = 1, **changes: object) -> RunPlan:
    values = {**SMALL, "methods": "discriminant", "cache": str(cache), **changes}
    return RunPlan(settings(values), seeds, workers, False, out, ROOT, "tiny")  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def test_a_run_leaves_results_heads_metrics_and_a_report(tmp_path: Path, cache: Path) -> None:
    events: list[dict] = []
    metrics = simulate(
        plan(tmp_path / "run", cache, seeds=2, methods=METHODS), lambda event: events.append(dict(event))
    ).as_dict()
    assert list(metrics["methods"]) == METHODS.split(",")
    assert all(0 <= found["balanced_accuracy"]["mean"] <= 1 for found in metrics["methods"].values())
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["methods"].keys() == metrics["methods"].keys()
    page = (tmp_path / "run" / "report.html").read_text()
    assert "not a medical device" in page
    assert "://" not in page.replace("http://www.w3.org/2000/svg", "")
    head = load_head(tmp_path / "run" / "seed-0" / "heads" / "discriminant.safetensors")
    assert head.classes == ("normal", "consolidation", "interstitial")
    assert {event["kind"] for event in events} >= {"phase", "site", "seed"}
    assert table(metrics).count("\n") == 1 + len(metrics["methods"])
    result = json.loads((tmp_path / "run" / "seed-0" / "result.json").read_text())
    assert result["methods"]["discriminant"]["cost"]["rounds"] == 2
    assert result["methods"]["fedavg-2"]["cost"]["rounds"] == 3
    assert result["methods"]["fedavg-2"]["cost"]["bytes_up"] < result["methods"]["ridge"]["cost"]["bytes_up"]


def test_same_seed_same_bytes_whatever_the_workers(tmp_path: Path, cache: Path) -> None:
    heads = []
    for name, workers in (("one", 1), ("two", 2)):
        simulate(plan(tmp_path / name, cache, workers=workers, methods="discriminant,fedavg-2"))
        folder = tmp_path / name / "seed-0" / "heads"
        heads.append({path.name: path.read_bytes() for path in folder.glob("*.safetensors")})
    assert heads[0].keys() == {"discriminant.safetensors", "fedavg-2.safetensors"}
    assert heads[0] == heads[1]


def test_hospitals_can_judge_instead_of_the_server(tmp_path: Path, cache: Path) -> None:
    central = simulate(plan(tmp_path / "server", cache, sites=5, shots=12)).as_dict()
    federated = simulate(plan(tmp_path / "sites", cache, sites=5, shots=12, test="sites")).as_dict()
    ours, theirs = (one["methods"]["discriminant"] for one in (federated, central))
    # the five hospitals share out the very cases the server holds; counts are exact, ranks are binned
    np.testing.assert_allclose(ours["balanced_accuracy"]["mean"], theirs["balanced_accuracy"]["mean"], atol=1e-6)
    np.testing.assert_allclose(ours["auroc"]["mean"], theirs["auroc"]["mean"], atol=5e-3)
    np.testing.assert_allclose(ours["worst_site"]["mean"], theirs["worst_site"]["mean"], atol=1e-6)


def test_two_runs_never_share_a_folder(tmp_path: Path, cache: Path) -> None:
    simulate(plan(tmp_path / "run", cache))
    before = (tmp_path / "run" / "metrics.json").read_bytes()
    with pytest.raises(RunError, match="already in use"):
        simulate(plan(tmp_path / "run", cache))
    assert (tmp_path / "run" / "metrics.json").read_bytes() == before


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"methods": "discriminent"}, ConfigError, "did you mean 'discriminant'"),
        ({"shotz": 3}, ConfigError, "did you mean 'shots'"),
        ({"features": "44"}, ConfigError, "no tap '44'"),
        ({"backbone": "torchvision:resnet18", "features": "rich"}, Exception, "resnet18"),
        ({"test": "sites", "methods": "ensemble-local"}, ConfigError, "needs labelled cases at the server"),
        ({"data-path": "/nowhere/at/all"}, DataError, "does not exist"),
    ],
)
def test_bad_input_is_one_clear_error_and_the_run_says_failed(
    tmp_path: Path, cache: Path, changes: dict, error: type[Exception], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("TORCH_HOME", "HF_HOME"):
        monkeypatch.setenv(name, str(tmp_path / "empty"))
    with pytest.raises(error, match=message):
        simulate(plan(tmp_path / "run", cache, **changes))
    left = (
        {path.name for path in (tmp_path / "run").rglob("*") if path.is_file()}
        if (tmp_path / "run").exists()
        else set()
    )
    assert not left & {"metrics.json", "report.html", "result.json"}
    assert not left or "FAILED" in left


def test_a_quorum_that_is_missed_stops_the_run(tmp_path: Path, cache: Path) -> None:
    # every class has fewer cases than the hospitals are willing to show: none can join
    with pytest.raises(RunError, match="quorum"):
        simulate(plan(tmp_path / "run", cache, **{"min-cell": 1000}))
    assert "quorum" in (tmp_path / "run" / "FAILED").read_text()
