"""A run's folder and what lies in it: claimed by one, marked when it fails, with the versions that ran."""

import contextlib
import json
import os
import threading
from pathlib import Path

import pytest

from medtl_core import versions
from medtl_core.errors import RunError
from medtl_core.run_folder import create_run


def test_a_new_and_an_empty_folder_are_taken_once(tmp_path: Path) -> None:
    assert create_run(tmp_path / "a" / "b").folder == tmp_path / "a" / "b"
    (tmp_path / "empty").mkdir()
    assert create_run(tmp_path / "empty").events_path.exists()
    with pytest.raises(RunError, match="already in use"):
        create_run(tmp_path / "empty")


def test_of_runs_that_start_together_one_wins(tmp_path: Path) -> None:
    barrier, won = threading.Barrier(8), []

    def claim() -> None:
        barrier.wait()
        with contextlib.suppress(RunError):
            won.append(create_run(tmp_path / "run"))

    threads = [threading.Thread(target=claim) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1


@pytest.mark.parametrize("place", ["file", "file/below"])
def test_a_file_is_no_run_folder(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="--out"):
        create_run(tmp_path / place)


def test_a_run_leaves_its_record(tmp_path: Path) -> None:
    with create_run(tmp_path / "run") as run:
        run.begin({"name": "x", "settings": {"shots": 5}})
        assert run.seed_folder(3).is_dir()
        run.finish({"methods": {}}, "<!doctype html>")
    assert sorted(path.name for path in run.folder.iterdir()) == [
        "config.json", "events.jsonl", "metrics.json", "report.html", "seed-3", "versions.json",
    ]  # fmt: skip
    assert json.loads((run.folder / "config.json").read_text())["settings"] == {"shots": 5}
    assert json.loads((run.folder / "versions.json").read_text())["python"]


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (RunError("no quorum"), "RunError: no quorum"),
        (KeyboardInterrupt(), "interrupted"),
        # what another library says may quote a cell of a patient's row
        (ValueError("could not convert string to float: 'Mrs Miller'"), "ValueError: raised in test_runs.py, line "),
    ],
)
def test_a_failed_run_is_marked_and_quotes_no_cell(tmp_path: Path, error: BaseException, words: str) -> None:
    with pytest.raises(type(error)), create_run(tmp_path / "run"):
        raise error
    marker = (tmp_path / "run" / "FAILED").read_text()
    assert words in marker and "Miller" not in marker
    assert not (tmp_path / "run" / "metrics.json").exists()


def test_versions_name_what_ran_and_no_machine() -> None:
    named = versions.versions()
    assert {"python", "platform", "numpy", "torch", "flwr"} <= set(named)
    assert os.uname().nodename not in named["platform"]


def test_the_commit_is_of_a_checkout_of_its_own_only(tmp_path: Path) -> None:
    assert versions._commit(tmp_path) is None
    (tmp_path / ".git").mkdir()
    assert versions._commit(tmp_path) is None
