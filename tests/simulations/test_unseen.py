"""The unseen-hospital experiment on tiny synthetic images: each site is left out once, and differences are paired."""

import json
from pathlib import Path

import pytest

from medtl_core.evaluation.judgement import Judgement
from medtl_core.evaluation.result import MethodResult
from simulations.unseen import main, table
from tests.manifest import write_table

SMALL = ["--set", "backbone=table", "sites=2", "shots=6", "bootstrap=5"]


@pytest.mark.slow
def test_every_site_is_left_out_once_and_only_what_is_done_is_not_done_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = ["--data", str(write_table(tmp_path / "table.csv", "abc"))]
    words = [*data, "--methods", "discriminant,nearest-mean", "--seeds", "1", "--out", str(tmp_path / "runs")]
    (tmp_path / "runs" / "a").mkdir(parents=True)
    (tmp_path / "runs" / "a" / "events.jsonl").write_text("half a run")
    assert main([*words, *SMALL, "seed=7"]) == 0
    other = capsys.readouterr().out
    assert main([*words, *SMALL]) == 0
    first = capsys.readouterr().out
    assert [line[4:] for line in first.splitlines() if line[:3] == "###"] == ["all sites", *"abc"]
    for name in "abc":
        result = json.loads((tmp_path / "runs" / name / "seed-0" / "result.json").read_text())
        assert result["test"]["sites"] == [name] and name not in result["sites"]
    assert first != other
    monkeypatch.setattr("simulations.experiments.simulate", None)  # would fail if it were called again
    assert main([*words, *SMALL]) == 0 and capsys.readouterr().out == first


def test_a_wrong_setting_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["--data", "phantom", "--out", str(tmp_path), "--set", "shotz=3"])
    assert stopped.value.code == 1
    assert capsys.readouterr().err == "error: unknown setting 'shotz'; did you mean 'shots'?\n"


def test_differences_are_paired_by_seed_and_site() -> None:
    def by_seed(*accuracies: float) -> dict[int, MethodResult]:
        figures = ({"balanced_accuracy": value} for value in accuracies)
        return {seed: MethodResult("federated", Judgement(figure)) for seed, figure in enumerate(figures)}

    north = {"plain": by_seed(0.5, 0.6), "other": by_seed(0.6, 0.7)}
    south = {"plain": by_seed(0.2, 0.3), "other": by_seed(0.3, 0.4)}
    whole, *alone = table({"north": north, "south": south}, "plain").split("\n\n### ")
    assert whole.splitlines()[-1].startswith("| `other` | 4 | 50.0 ± 29.1 |")
    assert whole.endswith("| +10.0 ± 0.0* |")
    assert [part.splitlines()[-1][:20] for part in alone] == ["| `other` | 2 | 65.0", "| `other` | 2 | 35.0"]
