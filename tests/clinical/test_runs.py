"""What a run leaves for a clinic, through the real apps: every figure again from its scores, thresholds, refusals."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medtl_core.cli.simulate import simulate
from medtl_core.clinical.record import CLINICAL, Clinical
from medtl_core.config import Settings, settings
from medtl_core.data.shared import shared_source
from medtl_core.errors import ConfigError, MedtlError
from medtl_core.flower.run import RunPlan
from medtl_core.values import Examples
from server.clinical import check
from tests.clinical.recompute import compare
from tests.manifest import write_manifest, write_table
from tests.test_multilabel_runs import write_cases

FINDINGS = {
    "data": "", "backbone": "table", "features": "rich", "image-size": 0, "sites": 3, "shots": 0, "folds": 3,
}  # fmt: skip
ROOT = Path(__file__).resolve().parents[2]
SMALL = {"data": "phantom", "sites": 5, "shots": 24, "image-size": 32, "features": "4", "bootstrap": 5}
METHODS = {"methods": "local,fedavg-2,discriminant,auto"}


def run(out: Path, **values: Any) -> Clinical:
    """Simulates and returns the record."""
    words = {**SMALL, **METHODS, **{name.replace("_", "-"): value for name, value in values.items()}}
    simulate(RunPlan(settings(words), 1, 1, False, out, ROOT, "t"))
    record = Clinical.read(out / "seed-0")
    assert record is not None
    return record


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("kept")
    run(folder, keep_scores=True, operating_points=0.9, subgroups="site")
    return folder


def test_every_figure_comes_again_from_the_scores_by_other_code(folder: Path) -> None:
    apart = compare(folder / "seed-0")
    assert {"balanced_accuracy", "auroc", "low", "benefit", "operating", "kept", "confusion of a group"} <= apart.keys()
    assert max(apart.values()) < 1e-6, apart


def test_scores_hold_no_identifier_and_cannot_run_code(folder: Path) -> None:
    patients = {str(name) for name in shared_source(settings(SMALL)).examples["patient"]}
    with np.load(folder / "seed-0" / "scores.npz", allow_pickle=False) as saved:
        assert not {name for name in saved.files if name.startswith(("path", "image"))}
        words = {str(word) for name in saved.files for word in np.ravel(saved[name]).tolist()}
        assert saved["patient"].dtype.kind == "i"
    assert not words & (patients - {word for word in patients if word.isdecimal()})


def test_scores_are_kept_on_request_only_and_thresholds_set_on_request_only(tmp_path: Path) -> None:
    record = run(tmp_path, methods="discriminant")
    assert not (tmp_path / "seed-0" / "scores.npz").exists()
    assert all(row.operating is None for row in record.methods["discriminant"].classes.values())
    phases = {row["phase"] for row in json.loads((tmp_path / "seed-0" / "result.json").read_text())["phases"]}
    assert "operating-points" not in phases


def test_thresholds_come_from_training_cases_and_are_the_same_on_both_roads(folder: Path, tmp_path: Path) -> None:
    central = Clinical.read(folder / "seed-0")
    there = run(tmp_path, operating_points=0.9, test="sites")
    assert central is not None
    shots = SMALL["sites"] * SMALL["shots"]  # type: ignore[operator]
    for name in ("discriminant", "auto"):
        for key, row in central.methods[name].classes.items():
            other = there.methods[name].classes[key].operating
            assert row.operating and other and row.operating.floor == other.floor and row.operating.folds == other.folds
            folds = row.operating.folds
            assert folds.found + folds.missed + folds.false + folds.spared == shots
            assert (folds.sensitivity or 0) >= 0.9
            assert there.methods[name].classes[key].area == pytest.approx(row.area, abs=2e-3)
    assert all(row.operating is None for row in central.methods["fedavg-2"].classes.values())
    assert there.methods["auto"].groups == {} and "local" not in there.methods


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"keep_scores": True, "test": "sites"}, "keep-scores needs test=server"),
        ({"keep_scores": True, "privacy": "auto"}, "keep-scores needs test=server and privacy=none"),
        ({"operating_points": 0.9, "privacy": "auto"}, "not free under privacy"),
        ({"operating_points": 90.0}, r"a sensitivity in \(0, 1\)"),
    ],
)
def test_what_would_tell_more_of_patients_than_a_run_may_is_refused(words: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        check(Settings(**words))
    check(Settings())


def test_a_column_that_is_not_there_stops_the_run_before_anyone_is_asked(tmp_path: Path) -> None:
    with pytest.raises(MedtlError, match="subgroups=sex"):
        run(tmp_path, subgroups="sex")
    assert not (tmp_path / "seed-0" / CLINICAL).exists()


def test_findings_have_no_thresholds_and_groups_by_their_ranks_alone(tmp_path: Path) -> None:
    write_cases(tmp_path / "data")
    words = {**FINDINGS, "data-path": f"{tmp_path / 'data'}", "methods": "auto", "subgroups": "site"}
    with pytest.raises(MedtlError, match="multi-label"):
        run(tmp_path / "refused", **words, operating_points=0.9)
    record = run(tmp_path / "run", **words)
    groups = record.methods["auto"].groups["site"]
    assert [group.cases for group in groups] == [20, 20, 20] and all(group.confusion == () for group in groups)
    page = (tmp_path / "run" / "report.html").read_text()
    assert "AUROC by site" in page and "No threshold was set" not in page


def test_free_columns_of_a_manifest_and_columns_of_a_table_make_groups(tmp_path: Path) -> None:
    drawn = shared_source(settings(SMALL)).examples.take(np.arange(0, 600, 2))
    rows = np.arange(len(drawn))
    free = {"sex": np.asarray(["f", "m"])[rows % 2], "age": (20 + rows % 60).astype(str)}
    write_manifest(Examples({**drawn.columns, **free}, drawn.task), tmp_path / "data")
    images = run(tmp_path / "a", data="", data_path=f"{tmp_path / 'data'}", sites=2, subgroups="sex,age", **METHODS)
    groups = images.methods["discriminant"].groups
    assert {group.value for group in groups["sex"]} == {"f", "m"}
    assert {"18 to below 40", "40 to below 60"} <= {group.value for group in groups["age"]}
    told = [group for column in groups.values() for group in column if group.cases]
    assert told and all(sum(map(sum, group.confusion)) == group.cases >= 11 for group in told)
    write_table(tmp_path / "cases.csv")
    words = {"backbone": "table", "features": "rich", "image-size": 0, "shots": 0, "methods": "discriminant"}
    table = run(tmp_path / "b", data="", data_path=f"{tmp_path / 'cases.csv'}", subgroups="c1", **words)
    assert [group.value.split()[0] for group in table.methods["discriminant"].groups["c1"]][-1] == "below"
