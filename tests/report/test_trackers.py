"""What TensorBoard and MLflow are told is what the run's own record says, and they are told nothing elsewhere."""

import json
import sqlite3
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from medtl_core.cli import app as cli
from medtl_core.report.trackers import tracked

RUN = Path(__file__).resolve().parents[1] / "export" / "quickstart"
RECORD = json.loads((RUN / "seed-0" / "result.json").read_text(encoding="utf-8"))
#: What these libraries import warns of its own.
QUIET = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")


def track(*words: object) -> Result:
    return CliRunner().invoke(cli.app, ["track", str(RUN), *map(str, words)])


def test_the_numbers_are_those_of_the_record() -> None:
    run = tracked(RUN)
    told = {(point.group, point.tag, point.step): point.value for point in run.points}
    for name, method in RECORD["methods"].items():
        assert told[name, "figures/balanced_accuracy", 0] == method["figures"]["balanced_accuracy"]
        assert told[name, "cost/bytes_up", 0] == method["cost"]["bytes_up"]
    for step, exchange in enumerate(RECORD["phases"]):
        assert told["exchanges", f"{exchange['phase']}/bytes_up", step] == exchange["bytes_up"]
    assert not {"data-path", "out", "cache"} & run.settings.keys() and run.settings["shots"] == "30"


@QUIET
@pytest.mark.slow
def test_tensorboard_reads_them_back(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    ended = track("--tensorboard", tmp_path)
    assert ended.exit_code == 0, ended.exception
    (home,) = tmp_path.iterdir()
    read = EventAccumulator(str(home / "auto"))
    read.Reload()
    (point,) = read.Scalars("figures/auroc")
    assert point.value == pytest.approx(RECORD["methods"]["auto"]["figures"]["auroc"], rel=1e-6)
    assert {one.name for one in home.iterdir()} == {*RECORD["methods"], "exchanges"}
    again = track("--tensorboard", tmp_path)
    assert again.exit_code == 1 and "exists already" in str(again.exception)


@QUIET
@pytest.mark.slow
def test_mlflow_keeps_them_in_the_folder_that_is_typed_whatever_its_variables_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("mlflow", reason="mlflow is not installed")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    ended = track("--mlflow", tmp_path / "store")
    assert ended.exit_code == 0, ended.exception
    with sqlite3.connect(tmp_path / "store" / "mlflow.db") as store:
        rows = dict(store.execute("select key, value from metrics where step = 0").fetchall())
        words = dict(store.execute("select key, value from params").fetchall())
    assert rows["auto/figures/auroc"] == RECORD["methods"]["auto"]["figures"]["auroc"]
    assert words["shots"] == "30" and "data-path" not in words


def test_without_a_place_or_a_library_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "name a place" in str(track().exception)
    monkeypatch.setitem(sys.modules, "mlflow", None)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    assert "pip install 'medtl[mlflow]'" in str(track("--mlflow", tmp_path / "a").exception)
    assert "pip install 'medtl[tensorboard]'" in str(track("--tensorboard", tmp_path / "b").exception)
    assert not (tmp_path / "b").exists()
