"""The privacy benchmark: its cells, their settings, and the table it prints of what is done."""

import json
from pathlib import Path

import pytest

from medtl_core.config import settings
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


#: What else the result of a study holds.
STUDY = {"schema": 1, "seed": 0, "settings": {}, "classes": ["a", "b"], "sites": {}}


def test_the_table_shows_means_by_epsilon(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seed, accuracy in ((0, 0.5), (1, 0.6)):
        cell = Cell("heart_uci", 4.0, seed, "secure")
        place = cell.folder(tmp_path) / f"seed-{seed}"
        place.mkdir(parents=True)
        (cell.folder(tmp_path) / "metrics.json").write_text("{}")
        record = {"figures": {"balanced_accuracy": accuracy, "auroc": 0.7}, "cost": {"bytes_up": 10}}
        (place / "result.json").write_text(json.dumps({**STUDY, "methods": {"private-auto": record}}))
    assert "| `private-auto` | secure | - | - | - | 55.0 ± 63.5 | - |" in table(tmp_path)
    assert main(["csv", "--out", str(tmp_path)]) == 0
    assert (tmp_path / "privacy.csv").read_text().splitlines()[1] == "heart_uci,secure,private-auto,0,4.0,0.5,0.7,10"
    capsys.readouterr()
