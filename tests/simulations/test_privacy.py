"""The privacy benchmark: its cells, their settings, and the table it prints of what is done."""

import json
from pathlib import Path

import pytest

from medtl_core.config import settings
from medtl_core.evaluation.judgement import Judgement
from medtl_core.evaluation.result import DataSource, MethodResult, Result
from medtl_core.federation.registry import find_method
from simulations.privacy import DATA, EPSILONS, Cell, cells, main, table


def test_every_cell_once_with_settings_that_hold(tmp_path: Path) -> None:
    found = list(cells(2))
    assert len({cell.folder(tmp_path) for cell in found}) == len(found) == 2 * len(DATA) * (1 + 2 * len(EPSILONS))
    for cell in found[: len(found) // 2]:
        chosen = settings(cell.settings(tmp_path))
        assert (chosen.privacy == "none") == (cell.mode == "free")
        assert chosen.secure_sum == (cell.mode == "secure")
        assert all(find_method(name).name == name for name in cell.methods)


def test_what_is_done_is_not_run_again_and_lacking_methods_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "heart_uci").mkdir()
    for mode, epsilon in (("secure", 4.0), ("free", 0.0)):
        done(tmp_path, Cell("heart_uci", epsilon, 0, mode), "private-auto", 0.5)
    narrowed = ["--sets", "heart_uci", "--modes", "free,secure", "--epsilons", "4", "--seeds", "1"]
    command = ["run", "--data", str(tmp_path), "--out", str(tmp_path), *narrowed]
    assert main([*command, "--modes", "secure", "--methods", "private-auto"]) == 0
    assert capsys.readouterr().out == "no run failed\n"
    assert main(command) == 0
    said = capsys.readouterr().out
    assert "2 cells" in said
    assert "not run again" in said


def done(out: Path, cell: Cell, method: str, accuracy: float) -> None:
    """Leaves what a finished run leaves."""
    place = cell.folder(out) / f"seed-{cell.seed}"
    place.mkdir(parents=True)
    (cell.folder(out) / "metrics.json").write_text("{}")
    record = MethodResult("federated", Judgement({"balanced_accuracy": accuracy}))
    result = Result(cell.seed, {}, {}, DataSource(), ("a", "b"), {}, {method: record})
    (place / "result.json").write_text(json.dumps(result.as_dict()))


def test_the_table_shows_means_by_epsilon(tmp_path: Path) -> None:
    for seed, accuracy in ((0, 0.5), (1, 0.6)):
        done(tmp_path, Cell("heart_uci", 4.0, seed, "secure"), "private-auto", accuracy)
    assert "| `private-auto` | secure | - | - | - | 55.0 ± 63.5 | - |" in table(tmp_path)
    assert "ham10000" not in table(tmp_path)
