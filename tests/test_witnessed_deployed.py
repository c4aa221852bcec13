"""The server's witness with real processes: its memory and the hospitals' ledgers meet again in another run."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from medtl_core.privacy.ledger_report import balance
from medtl_core.privacy.witnesses import FILE
from tests.deployed import copy_app
from tests.harness.processes import Deployment
from tests.privacy.made import write_tables

pytestmark = [pytest.mark.deployed, pytest.mark.timeout(900), pytest.mark.usefixtures("clean_environment")]

RUN: dict[str, Any] = {
    "data": "", "backbone": "table", "sites": 2, "bootstrap": 20, "deadline": 300.0, "privacy": "mean", "epsilon": 0.5,
    "public-cases": 4,
}  # fmt: skip


def test_a_deployed_hospital_whose_ledger_was_deleted_is_refused_in_the_next_run(tmp_path: Path) -> None:
    write_tables(tmp_path, "north", "south")
    nodes = [
        {"data-path": str(tmp_path / f"{name}.csv"), "site-name": name, "state-dir": str(tmp_path / name)}
        for name in ("north", "south")
    ]
    known = {**RUN, "cache": str(tmp_path / "cache"), "test-path": str(tmp_path / "test.csv")}
    app, failures = copy_app(tmp_path), []
    with Deployment(nodes, home=tmp_path / "flower") as deployment:
        for folds in (2, 3):
            out = tmp_path / f"out{folds}"
            values = {**known, "folds": folds, "out": str(out), "state": str(tmp_path / "server")}
            assert deployment.run(app, values, timeout=400.0) == "finished:completed"
            failures.append(json.loads((out / "result.json").read_text(encoding="utf-8"))["failures"])
            if folds == 2:
                shutil.rmtree(tmp_path / "north" / "privacy")
    assert failures[0] == []
    assert [(row["site"], row["text"].partition(":")[0]) for row in failures[1]] == [("north", "PrivacyError")]
    assert balance(tmp_path / "north" / "privacy").reserved == 0
    remembered = json.loads((tmp_path / "server" / FILE).read_text(encoding="utf-8"))
    assert remembered["south"]["witness-seq"] == balance(tmp_path / "south" / "privacy").witness[0]
