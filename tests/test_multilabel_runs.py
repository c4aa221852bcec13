"""A multi-label task through the real apps: shared data, hospitals' own folders, and what is refused."""

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load

from client.app import app as client_app
from client.site import Node, open_site
from medtl_core.config import Settings, settings
from medtl_core.errors import ConfigError, MedtlError
from medtl_core.evaluation.result import Result
from medtl_core.federation import registry
from medtl_core.flower.grid import run_local
from medtl_core.predict.saved import load_packed
from medtl_core.report.page import render
from medtl_core.report.summary import summarise
from medtl_core.report.terminal import summary_tables
from medtl_core.rng import stream
from server.app import app as server_app
from tests.hospital import made_hospital

CLASSES = ("edema", "effusion", "nodule")
SITES = ("east", "north", "south")
RUN: Mapping[str, Any] = {
    "data": "", "backbone": "table", "sites": 3, "shots": 0, "bootstrap": 20, "folds": 3, "cache": "off",
    "methods": "local,auto,fedavg-2", "local-epochs": 1,
}  # fmt: skip


def write_cases(place: Path, sites: tuple[str, ...] = SITES, split: str = "") -> Path:
    """Patients of some sites with three findings, a fifth of them unknown; north never says anything of nodules."""
    place.mkdir(parents=True)
    task = {"name": "chest", "classes": CLASSES, "kind": "multi-label"}
    (place / "task.json").write_text(json.dumps(task), encoding="utf-8")
    with (place / "manifest.csv").open("w", newline="", encoding="utf-8") as handle:
        rows = csv.writer(handle)
        rows.writerow([*CLASSES, *"abcd", "patient_id", "site", "split"])
        for site in sites:
            rng = stream(0, "cases", site)
            values = rng.normal(size=(60, 4))
            there = values[:, :3] - 0.5 * values[:, 1:] + 0.5 * rng.normal(size=(60, 3)) > [0.0, 0.5, 0.9]
            gaps = rng.random(there.shape) < 0.2
            gaps[:, 2] |= site == "north"
            for at, (row, label, gap) in enumerate(zip(values, there, gaps, strict=True)):
                cells = ["" if unknown else int(value) for value, unknown in zip(label, gap, strict=True)]
                part = "test" if at >= 40 else "train"
                if split in ("", part):
                    rows.writerow([*cells, *row.round(4).tolist(), f"{site}-{at}", site, part])
    return place


def run(out: Path, nodes: list[Any] | None = None, **values: Any) -> dict[str, Any]:
    shared = [{"partition-id": part, "num-partitions": 3} for part in range(3)]
    chosen = settings({**RUN, "out": str(out), **values}).public()
    run_local(server_app, client_app, node_configs=nodes or shared, run_config=chosen, workers=1, wire=True)
    result: dict[str, Any] = json.loads((out / "result.json").read_text(encoding="utf-8"))
    return result


@pytest.mark.parametrize("test", ["server", pytest.param("sites", marks=pytest.mark.slow)])
def test_every_finding_has_a_row_in_result_terminal_and_page(tmp_path: Path, test: str) -> None:
    result = run(tmp_path / "out", **{"data-path": str(write_cases(tmp_path / "data")), "test": test})
    assert result["failures"] == []
    for name, method in result["methods"].items():
        assert set(method["by_label"]) == set(CLASSES), name
        known = [part["figures"]["auroc"] for part in method["by_label"].values()]
        assert method["figures"]["auroc"] == pytest.approx(np.mean(known), abs=0.02 if name == "local" else 1e-9)
    auto = result["methods"]["auto"]
    assert min(part["figures"]["auroc"] for part in auto["by_label"].values()) > 0.8
    assert auto["by_label"]["nodule"]["by_site"].get("north", {"n": 0})["n"] == 0
    if test == "server":
        assert set(auto["by_label"]["edema"]["intervals"]) == {"auroc", "balanced_accuracy"}
    kind, packed = load_packed(tmp_path / "out" / "heads" / "auto.json")
    assert kind == "multi-label" and registry.unpack(kind, packed).classes == CLASSES

    from rich.console import Console

    summary, console = summarise([Result.from_dict(result)]), Console(width=100)
    with console.capture() as shown:
        console.print(*summary_tables(summary))
    page = render(summary, [Result.from_dict(result)])
    for name in CLASSES:
        assert name in shown.get() and name in page
    assert "ROC by finding" in page and "3 findings" in shown.get()


def own_folders(folder: Path) -> list[Any]:
    return [made_hospital(folder / "own" / name, name, write_cases(folder / name, (name,))) for name in SITES]


def head(out: Path) -> np.ndarray:
    """The one head of a run."""
    (path,) = (out / "heads").glob("*.safetensors")
    return load(path.read_bytes())["head"]


@pytest.mark.parametrize("method", ["auto", "discriminant"])
def test_hospitals_with_their_own_folders_give_the_same_head(tmp_path: Path, method: str) -> None:
    data = write_cases(tmp_path / "data")
    run(tmp_path / "shared", **{"data-path": str(data), "methods": method})
    test = write_cases(tmp_path / "test", split="test")
    run(tmp_path / "apart", own_folders(tmp_path), **{"test-path": str(test), "methods": method})
    assert head(tmp_path / "apart") == pytest.approx(head(tmp_path / "shared"), rel=1e-5, abs=1e-6)


def test_other_methods_and_privacy_are_refused_in_one_sentence(tmp_path: Path) -> None:
    data = str(write_cases(tmp_path / "data"))
    with pytest.raises(ConfigError, match="ridge does not answer multi-label tasks"):
        run(tmp_path / "ridge", **{"data-path": data, "methods": "auto,ridge"})
    private = {"privacy": "mean", "epsilon": 4.0, "public-cases": 20, "methods": "private-mean"}
    with pytest.raises(ConfigError, match="private methods tell classes apart"):
        run(tmp_path / "private", **{"data-path": data, **private})
    (node, *_) = own_folders(tmp_path)
    with pytest.raises(MedtlError, match="private methods tell classes apart"):
        open_site(Settings(data="", backbone="table", privacy="mean", epsilon=4.0), Node.of(node))


def test_a_hospital_that_means_other_findings_takes_no_part(tmp_path: Path) -> None:
    nodes = own_folders(tmp_path)
    plain = json.dumps({"name": "chest", "classes": CLASSES[::-1], "kind": "multi-label"})
    (tmp_path / "north" / "task.json").write_text(plain, encoding="utf-8")
    test = write_cases(tmp_path / "test", split="test")
    result = run(tmp_path / "out", nodes, **{"test-path": str(test), "quorum": 0.6, "methods": "discriminant"})
    assert len(result["failures"]) == 1 and set(result["sites"]) == {"east", "south"}


def test_what_few_cases_show_is_not_told(tmp_path: Path) -> None:
    """A finding that fewer cases have, or lack, than the hospital is willing to show becomes unknown in these."""
    data = write_cases(tmp_path / "data")
    nodes = [Node.of({"partition-id": part}) for part in range(3)]
    opened = [open_site(settings({**RUN, "data-path": str(data), "min-cell": cell}), nodes[0]) for cell in (0, 12)]
    whole, shown = (site.data.material.examples["labels"] for site in opened)  # type: ignore[union-attr]
    assert len(whole) == len(shown)
    for side in (0, 1):
        before, after = (whole == side).sum(axis=0), (shown == side).sum(axis=0)
        assert after.tolist() == np.where(before < 12, 0, before).tolist()
    assert (whole != shown).any()
