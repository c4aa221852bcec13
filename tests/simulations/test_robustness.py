"""Robustness to corrupted images: which cases are judged, what is kept and not done twice, what is printed."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from medtl_core.config import Settings
from medtl_core.errors import ConfigError, DataError
from medtl_core.features.dataset import Material
from medtl_core.values import Examples, Task
from simulations import robustness
from simulations.corruption import RELEVANT
from simulations.robustness import CLEAN, cells, corrupted, main, table

SMALL = ["sites=2", "image-size=32", "features=4", "bootstrap=5", "views=one"]


def test_a_finished_study_is_only_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(RELEVANT, "synthetic chest X-ray", ("jpeg", "stripes"))  # type: ignore[arg-type]
    out = tmp_path / "run"
    words = ["--data", "phantom", "--methods", "discriminant,local", "--shots", "6", "--seeds", "1"]
    words += ["--severities", "5", "--cases", "12", "--out", str(out), "--set", *SMALL]
    main(words)
    (kept,) = out.glob("jpeg-5-*.json")
    before = kept.read_text()
    kept.unlink()
    first = capsys.readouterr().out
    asked, judge = [], robustness._judged
    monkeypatch.setattr(robustness, "_judged", lambda *given: asked.append(1) or judge(*given))
    main(words)
    assert len(asked) == 1 and kept.read_text() == before and capsys.readouterr().out == first
    assert [row.split("|")[1].strip() for row in first.splitlines()] == ["method", "-", "`discriminant`", "`local`"]
    with pytest.raises(ConfigError, match="another robustness study"):
        main([*words, "seed=7"])
    words[3], words[words.index(str(out))] = "ensemble-local", str(tmp_path / "other")
    with pytest.raises(ConfigError, match="ensemble-local leaves no classifier"):
        main(words)


def test_the_table_by_hand() -> None:
    judged = {CLEAN: {"ridge": [0.8]}, ("jpeg", 1): {"ridge": [0.7]}, ("jpeg", 5): {"ridge": [0.5]}}
    assert table(judged).splitlines()[2] == "| `ridge` | 80.0 | 60.0 | 25.0 |"


def test_cells_are_clean_and_every_relevant_corruption() -> None:
    found = cells("chest X-ray", (1, 3, 5))
    assert found[0] == CLEAN and len(found) == 1 + 3 * len(RELEVANT["chest X-ray"]) == len(set(found))
    for severities in ((), (0,), (6,), (1, 1)):
        with pytest.raises(ConfigError, match="severities"):
            cells("dermoscopy", severities)
    with pytest.raises(ConfigError, match="modality 'table'"):
        cells("table", (1,))


def test_corrupted_cases_are_the_same_cases_with_other_images() -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 40, 36, 3), dtype=np.uint8)
    examples = Examples({"label": np.arange(3) % 2, "patient": np.arange(3), "image": images}, Task("t", ("x", "y")))
    chosen = Settings(backbone="random:squeezenet1_1", features="plain", image_size=32)
    cases = Material(examples, chosen, ("identity",), (), "dermoscopy")
    assert corrupted(cases, CLEAN, seed=0) is cases
    made = corrupted(cases, ("gaussian-noise", 3), seed=0)
    assert made.examples["patient"].tolist() == [0, 1, 2] and made.settings == chosen.replace(cache="off")
    other = corrupted(cases, ("gaussian-noise", 3), seed=1)
    difference = made.examples["image"].astype(float) - other.examples["image"]
    assert 28 < difference.std() < 57  # twice noise of 0.12 of 255, clipped at black and white
    again = corrupted(cases.take(np.array([2])), ("gaussian-noise", 3), seed=0)
    np.testing.assert_array_equal(again.examples["image"][0], made.examples["image"][2])
    numbers = replace(cases, examples=Examples({"table": np.zeros((2, 3))}, Task("t", ("x", "y"))))
    with pytest.raises(DataError, match="no images"):
        corrupted(numbers, ("jpeg", 1), seed=0)
