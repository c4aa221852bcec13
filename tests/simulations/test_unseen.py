"""The unseen-hospital experiment on tiny synthetic images, and its table by hand."""

import json
from pathlib import Path

import numpy as np
import pytest

from medtl_core.evaluation.intervals import strata
from medtl_core.values import Scores
from simulations import unseen
from simulations.unseen import Judged, main, patient_draws, table

SMALL = ["--set", "sites=3", "shots=12", "image-size=32", "features=4", "bootstrap=5"]
METHODS = "discriminant,discriminant-standardised,adversarial-1"


def test_every_site_is_left_out_in_turn_and_a_second_call_only_reads(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["sites", "--methods", METHODS, "--seeds", "2", "--resamples", "20", "--out", str(tmp_path), *SMALL]
    monkeypatch.setattr(unseen, "cells", lambda *given: [cell for cell in cells(*given) if cell.name[-1] in "ab"])
    assert main(words) == 0
    first = capsys.readouterr().out
    lines = [line.split(" | ") for line in first.splitlines()]
    assert lines[0][-2:] == ["phantom-a", "phantom-b |"] and len(lines) == 5
    assert lines[2][3:5] == ["-", "-"] and "±" in lines[3][3] and " to " in lines[3][4]
    assert lines[4][5] != "-"  # an adversary is probed
    for name in ("phantom-a", "phantom-b"):
        result = json.loads((tmp_path / name / "seed-1" / "result.json").read_text())
        assert result["test"]["sites"] == [name] and not any(name in site for site in result["sites"])
    monkeypatch.setattr("medtl_core.cli.simulate.simulate", None)  # would fail if it were called again
    assert main(words) == 0 and capsys.readouterr().out == first


cells = unseen.cells


def test_scanners_are_unseen_and_one_seed_has_no_t_interval(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["scanner", "--methods", METHODS, "--seeds", "1", "--resamples", "20", "--out", str(tmp_path), *SMALL]
    assert main(words) == 0
    assert "±" not in capsys.readouterr().out
    result = json.loads((tmp_path / "unseen scanners" / "seed-0" / "result.json").read_text())
    assert result["test"]["sites"] == ["unseen-1", "unseen-2", "unseen-3", "unseen-4"]


def test_the_bootstrap_judges_what_the_run_judged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["scanner", "--methods", METHODS, "--seeds", "1", "--resamples", "50", "--out", str(tmp_path), *SMALL]
    main(words)
    capsys.readouterr()
    result = json.loads((tmp_path / "unseen scanners" / "seed-0" / "result.json").read_text())
    again = unseen._resampled(tmp_path / "unseen scanners" / "seed-0", result, 200)
    for name, record in result["methods"].items():
        assert np.mean(again[name]) == pytest.approx(record["figures"]["balanced_accuracy"], abs=0.03)


def test_a_wrong_setting_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["sites", "--out", str(tmp_path), "--set", "shotz=3"])
    assert (
        stopped.value.code == 1 and capsys.readouterr().err == "error: unknown setting 'shotz'; did you mean 'shots'?\n"
    )


def test_patients_are_drawn_whole_and_strata_keep_their_size() -> None:
    label = np.array([0, 0, 1, 1, 1, 1, 1])
    group = np.array([0, 0, 1, 2, 3, 4, 4])
    scores = Scores(np.zeros((7, 2)), label, np.full(7, "s"), group)
    counts = patient_draws(scores, 40)
    assert (counts[0] == counts[1]).all() and (counts[5] == counts[6]).all()
    patient, stratum = strata(scores)
    for one in np.unique(stratum):
        members = [np.flatnonzero(patient == index)[0] for index in np.flatnonzero(stratum == one)]
        assert (counts[members].sum(axis=0) == len(members)).all()
    np.testing.assert_array_equal(counts, patient_draws(scores, 40))


def test_the_table_by_hand() -> None:
    figures = {
        "plain": {"balanced_accuracy": [0.5, 0.6], "auroc": [0.7, 0.7]},
        "other": {"balanced_accuracy": [0.6, 0.6], "auroc": [0.8, 0.8]},
    }
    draws = {"plain": np.array([0.5, 0.6]), "other": np.array([0.6, 0.7])}
    shown = table({"north": Judged(figures, {"other": [0.25, 0.35]}, draws)}, "plain").splitlines()
    assert shown[0].startswith("| method | balanced accuracy | AUROC | against `plain` |")
    assert shown[2] == "| `plain` | 55.0 ± 63.5 | 70.0 ± 0.0 | - | - | - |"
    assert shown[3] == "| `other` | 60.0 ± 0.0 | 80.0 ± 0.0 | +5.0 ± 63.5 | +10.0 to +10.0 | 30.0 |"
