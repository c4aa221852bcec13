"""The experiment on sources: its tables from made-up candidates, and a broken run that is begun anew."""

from pathlib import Path

import pytest

from medtl_core.cli.ranking import Candidate
from medtl_core.config import Settings
from medtl_core.flower.run import Plan
from simulations import sources
from simulations.sources import HABIT, LAYERS, agreement_markdown, medical_markdown


def made(name: str, seed: int, score: float, measured: float) -> Candidate:
    backbone, _, taps = name.rpartition("@")
    scores = {"cv-loss": score, "logme": -score}
    return Candidate(backbone, taps, seed, 8, scores, {"balanced_accuracy": measured, "auroc": measured + 0.1})


def test_the_table_of_agreement_by_hand() -> None:
    part = [
        candidate
        for seed in (0, 1)
        for candidate in (made(HABIT, seed, 0.1, 0.5), made("b@1", seed, 0.2, 0.6), made("b@2", seed, 0.3, 0.7))
    ]
    lines = agreement_markdown({"set": part}, 96).splitlines()
    assert "| cv-loss | +1.00 / +1.00 / 0.0 |" in lines
    assert "| logme | -1.00 / -1.00 / 20.0 |" in lines
    assert f"| always {HABIT} | - / - / 20.0 |" in lines
    assert "| any candidate | - / - / 10.0 |" in lines
    assert lines[-1].endswith(
        "3 candidates of 2 backbones, 2 seeds; measured from 50.0 to 70.0; first by cv-loss: b@2 (2x)"
    )


def test_the_table_of_sources_by_hand() -> None:
    part = []
    for seed, gain in enumerate((-0.02, -0.04, -0.06)):
        part += [made(f"lite0@{taps}", seed, 0.1, 0.5) for taps in ("4", *LAYERS)]
        part += [made(f"own:lite0-kermany@{taps}", seed, 0.2 if seed else 0.0, 0.5 + gain) for taps in ("4", *LAYERS)]
    text = medical_markdown({("nih_cxr64", 6, 25): part})
    rows = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("| nih")]
    assert [row[1].strip() for row in rows] == list(LAYERS)
    for row in rows:
        cells = [cell.strip() for cell in row]
        assert cells[0] == "nih_cxr64, 6 x 25"
        assert cells[2] == "50.0 ± 0.0" and cells[4] == "-4.0 ± 5.0"
        assert cells[6] == "60.0 / 56.0"
        assert cells[7] == "cv-loss 2/3, logme 1/3"


def test_a_half_finished_run_is_begun_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = Plan(Settings(), 1, 1, False, tmp_path / "run", tmp_path, "phantom")
    plan.out.mkdir()
    (plan.out / "events.jsonl").write_text("")
    seen: list[bool] = []
    monkeypatch.setattr(sources, "simulate", lambda plan: seen.append(plan.out.exists()))
    sources._run(plan)
    assert seen == [False]


def test_data_that_are_not_there_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "weights").mkdir()
    words = ["selection", "--shared", str(tmp_path), "--out", str(tmp_path / "out")]
    assert sources.main(words) == 1
    assert capsys.readouterr().err.splitlines()[-1].startswith("error: ")
