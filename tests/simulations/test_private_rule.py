"""The runs behind `private-auto`'s constants: settings that hold, sets that can be read, one run told in the table."""

from pathlib import Path

import pytest

from medtl_core.config import settings
from medtl_core.data.source import open_source
from medtl_core.registry import find_method
from simulations.private_rule import DATA, EPSILONS, METHODS, drawn, jobs, main


def test_every_run_has_settings_that_hold_and_data_that_can_be_read(tmp_path: Path) -> None:
    found = list(jobs(tmp_path, seeds=2))
    assert len({job.folder for job in found}) == len(found) == 2 * len(DATA) * len(EPSILONS)
    chosen = [settings(dict(job.settings)) for job in found]
    assert {one.epsilon for one in chosen} == set(EPSILONS) and not any(one.secure_sum for one in chosen)
    assert all(find_method(name).name == name for name in METHODS)
    for name, (_, classes) in DATA.items():
        examples = open_source(settings({"data": "", "data-path": str(drawn(name, tmp_path))})).examples
        assert len(examples.task.classes) == classes
        assert 0.1 < float((examples["split"] == "test").mean()) < 0.5


def test_what_is_not_done_is_a_dash(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--out", str(tmp_path), "--seeds", "1", "--minutes", "0"]) == 0
    out = capsys.readouterr().out
    assert "| digits, signal | 12 | 22 | 41 | 75 | 130 | 218 |" in out
    assert "| `private-auto` | - | - | - | - | - | - |" in out
