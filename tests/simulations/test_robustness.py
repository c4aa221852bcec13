"""The robustness experiment on tiny synthetic images: what it keeps, what it does not do twice, what it prints."""

import json
from pathlib import Path

import pytest

from medtl_core.errors import ConfigError
from simulations import robustness as experiment
from simulations.robustness import main, table

WORDS = ["--data", "phantom", "--methods", "discriminant,fedavg-2,local", "--shots", "12", "--seeds", "2"]
SMALL = ["sites=3", "image-size=32", "features=4", "bootstrap=20"]


def arguments(out: Path, *more: str) -> list[str]:
    return [*WORDS, "--severities", "5", "--cases", "40", "--out", str(out), *more] + [
        word for value in SMALL for word in ("--set", value)
    ]


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("robustness") / "run"
    main(arguments(out))
    return out


def test_a_table_with_the_reference_first(done: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(arguments(done))  # nothing is left to do: the table comes from what is kept
    rows = capsys.readouterr().out.strip().splitlines()
    assert [row.split("|")[1].strip() for row in rows] == ["method", "-", "`discriminant`", "`fedavg-2`", "`local`"]
    assert rows[2].count("1.00 ± 0.00") == 2  # BE and rBE of the reference
    kept = json.loads((done / "robustness.json").read_text())
    assert kept.keys() == {"discriminant", "fedavg-2", "local"}
    assert all(0 < one["clean"] <= 1 and 0 < one["corrupted"] <= 1 for found in kept.values() for one in found)


def test_finished_cells_and_trainings_are_not_done_again(done: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    real = experiment._judged

    def counting(*words: object) -> object:
        asked.append(1)
        return real(*words)  # type: ignore[arg-type]

    monkeypatch.setattr(experiment, "_judged", counting)
    monkeypatch.setattr(experiment, "simulate", None)  # would fail if called
    cells = sorted((done / "cells").iterdir())
    before = cells[3].read_text()
    cells[3].unlink()
    main(arguments(done))
    assert len(asked) == 1 and cells[3].read_text() == before


def test_a_folder_holds_one_study(done: Path) -> None:
    with pytest.raises(ConfigError, match="another robustness study"):
        main(arguments(done, "--set", "seed=7"))


def test_an_ensemble_has_no_classifier_to_judge(tmp_path: Path) -> None:
    words = arguments(tmp_path / "run", "--seeds", "1")
    words[3] = "discriminant,ensemble-local"
    with pytest.raises(ConfigError, match="ensemble-local leaves no classifier"):
        main(words)


def test_one_seed_has_no_interval() -> None:
    from simulations.corrupted_heads import Robustness

    row = table({"ridge": [Robustness(0.8, 0.6, 0.25, 1.0, float("nan"))]}).splitlines()[2]
    assert row == "| `ridge` | 80.0 | 60.0 | 25.0 | 1.00 | - |"
