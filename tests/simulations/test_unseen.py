"""The unseen-hospital experiment on tiny synthetic images, and its table by hand."""

import json
from pathlib import Path

import pytest

from medtl_core.evaluation.judgement import Judgement
from medtl_core.evaluation.result import MethodResult
from simulations import unseen
from simulations.unseen import cells, main, table

SMALL = ["--set", "sites=3", "shots=12", "image-size=32", "features=4", "bootstrap=5"]
METHODS = "discriminant,discriminant-standardised,adversarial-1"


def test_every_site_is_left_out_in_turn_and_a_second_call_only_reads(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["--data", "phantom", "--methods", METHODS, "--seeds", "1", "--out", str(tmp_path), *SMALL]
    monkeypatch.setattr(unseen, "cells", lambda *given: dict(sorted(cells(*given).items())[:2]))
    assert main(words) == 0
    first = capsys.readouterr().out
    lines = [line.split(" | ") for line in first.splitlines()]
    assert lines[0][-2:] == ["phantom-a", "phantom-b |"] and len(lines) == 5
    assert lines[2][3] == "-" and "±" in lines[3][3]
    assert lines[4][4] != "-"  # an adversary is probed
    for name in ("phantom-a", "phantom-b"):
        result = json.loads((tmp_path / name / "seed-0" / "result.json").read_text())
        assert result["test"]["sites"] == [name] and not any(name in site for site in result["sites"])
    monkeypatch.setattr("medtl_core.cli.simulate.simulate", None)  # would fail if it were called again
    assert main(words) == 0 and capsys.readouterr().out == first


def test_a_wrong_setting_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["--data", "phantom", "--out", str(tmp_path), "--set", "shotz=3"])
    assert (
        stopped.value.code == 1 and capsys.readouterr().err == "error: unknown setting 'shotz'; did you mean 'shots'?\n"
    )


def test_the_table_by_hand() -> None:
    def record(accuracy: float, area: float, **facts: float) -> MethodResult:
        figures = {"balanced_accuracy": accuracy, "auroc": area}
        return MethodResult("federated", Judgement(figures), facts=facts)

    methods = {
        "plain": {0: record(0.5, 0.7), 1: record(0.6, 0.7)},
        "other": {0: record(0.6, 0.8, hospital_accuracy=0.25), 1: record(0.6, 0.8, hospital_accuracy=0.35)},
    }
    shown = table({"north": methods}, "plain").splitlines()
    assert shown[0] == "| method | balanced accuracy | AUROC | against `plain` | hospital told |"
    assert shown[2] == "| `plain` | 55.0 ± 63.5 | 70.0 ± 0.0 | - | - |"
    assert shown[3] == "| `other` | 60.0 ± 0.0 | 80.0 ± 0.0 | +5.0 ± 63.5 | 30.0 |"
