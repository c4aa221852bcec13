"""The privacy benchmark: its cells, their settings, and the table it prints of what is done."""

import json
from pathlib import Path

from medtl_core.config import settings
from medtl_core.evaluation.judgement import Judgement
from medtl_core.evaluation.result import DataSource, MethodResult, Result
from medtl_core.federation.registry import find_method
from simulations.privacy import DATA, EPSILONS, Cell, cells, table


def test_every_cell_once_with_settings_that_hold(tmp_path: Path) -> None:
    found = list(cells(2))
    assert len({cell.folder(tmp_path) for cell in found}) == len(found) == 2 * len(DATA) * (1 + 2 * len(EPSILONS))
    for cell in found[: len(found) // 2]:
        chosen = settings(cell.settings(tmp_path))
        assert (chosen.privacy == "none") == (cell.mode == "free")
        assert chosen.secure_sum == (cell.mode == "secure")
        assert all(find_method(name).name == name for name in cell.methods)


def test_the_table_shows_means_by_epsilon(tmp_path: Path) -> None:
    for seed, accuracy in ((0, 0.5), (1, 0.6)):
        cell = Cell("heart_uci", 4.0, seed, "secure")
        place = cell.folder(tmp_path) / f"seed-{seed}"
        place.mkdir(parents=True)
        (cell.folder(tmp_path) / "metrics.json").write_text("{}")
        method = MethodResult("federated", Judgement({"balanced_accuracy": accuracy}))
        result = Result(seed, {}, {}, DataSource(), ("a", "b"), {}, {"private-auto": method})
        (place / "result.json").write_text(json.dumps(result.as_dict()))
    assert "| `private-auto` | secure | - | - | - | 55.0 ± 63.5 | - |" in table(tmp_path)
