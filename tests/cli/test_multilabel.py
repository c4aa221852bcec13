"""Commands on a multi-label task: what data hold, and what reads one class of each case refuses them."""

from pathlib import Path

from tests.cli.conftest import Call
from tests.test_multilabel_runs import run, write_cases


def test_the_cases_of_each_finding_are_counted_of_those_that_it_is_known_of(tmp_path: Path, call: Call) -> None:
    code, shown = call("data", "check", write_cases(tmp_path / "data"), "--as", "table")
    assert code == 0 and "no fault found" in shown
    (row,) = [line for line in shown.splitlines() if line.split()[:2] == ["north", "train"]]
    assert "0 of 0" in row


def test_commands_that_read_one_class_of_each_case_refuse_findings(tmp_path: Path, call: Call) -> None:
    data = write_cases(tmp_path / "data")
    run(tmp_path / "out", **{"data-path": str(data), "methods": "auto"})
    code, shown = call("encode", data, "--out", tmp_path / "encoder")
    assert code and "'chest' is multi-label" in shown
    code, shown = call("adapt", tmp_path / "out" / "heads" / "auto.json", "--data", data)
    assert code and "multi-label" in shown
