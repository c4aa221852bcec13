"""The runs behind `private-auto`'s constants: settings that hold, sets that can be read, one run told in the table."""

from pathlib import Path

import numpy as np
import pytest

from medtl_core.config import settings
from medtl_core.data.source import open_source
from medtl_core.federation.registry import find_method
from simulations.private_rule import EPSILONS, METHODS, SMALLER, TRIALS, drawn, jobs, main


def test_every_run_has_settings_that_hold_and_data_that_can_be_read(tmp_path: Path) -> None:
    found = list(jobs(tmp_path, seeds=2))
    assert len({job.folder for job in found}) == len(found) == 2 * len(TRIALS) * len(EPSILONS)
    chosen = [settings(dict(job.settings)) for job in found]
    assert {one.epsilon for one in chosen} == {*EPSILONS, *SMALLER} and not any(one.secure_sum for one in chosen)
    assert all(find_method(name).name == name for name in METHODS)
    for name, trial in TRIALS.items():
        kind = {"backbone": "table"} if trial.columns else {}
        examples = open_source(settings({"data": "", "data-path": str(drawn(name, tmp_path)), **kind})).examples
        test = examples["split"] == "test"
        counts = np.bincount(examples["label"][~test])
        assert len(examples.task.classes) == len(counts) == trial.classes
        assert test.sum() >= 150 and counts.sum() >= 1.2 * trial.sites * trial.shots
        assert trial.kept < 1 or 0.1 < float(test.mean()) < 0.5
        assert counts[-1] / counts[0] == pytest.approx(trial.kept ** (trial.classes - 1), rel=0.3, abs=0.01)
    assert {one.public_images for one in chosen} == {"photos", str(tmp_path / "public.npz")}


def test_public_phantoms_are_of_other_patients(tmp_path: Path) -> None:
    own, public = (np.load(drawn(name, tmp_path))["train_images"] for name in ("phantom-own", "public"))
    assert not {image.tobytes() for image in own} & {image.tobytes() for image in public}


def test_what_is_not_done_is_a_dash(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--out", str(tmp_path), "--seeds", "1", "--minutes", "0"]) == 0
    out = capsys.readouterr().out
    assert "| digits, signal | 12 | 22 | 41 | 75 | 130 | 218 |" in out
    assert "| digits-table, signal | 3 | 6 | 12 | 22 | 41 | 75 |" in out
    assert "| `private-auto` | - | - | - | - | - | - |" in out
