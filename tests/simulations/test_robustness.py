"""Robustness to corrupted images: which cases are judged, what is kept and not done twice, what is printed."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from medtl_core.config import Settings
from medtl_core.errors import ConfigError, DataError
from medtl_core.features.dataset import Material
from medtl_core.values import Examples, Task
from simulations import robustness as experiment
from simulations.corruption import RELEVANT
from simulations.robustness import CLEAN, cells, corrupted, main, table

WORDS = ["--data", "phantom", "--methods", "discriminant,local", "--shots", "12", "--seeds", "1"]
SMALL = ["sites=3", "image-size=32", "features=4", "bootstrap=20"]


def arguments(out: Path, *more: str) -> list[str]:
    return [*WORDS, "--severities", "5", "--cases", "40", "--out", str(out), "--set", *SMALL, *more]


def material() -> Material:
    images = np.random.default_rng(0).integers(0, 256, (3, 40, 36, 3), dtype=np.uint8)
    columns = {"label": np.arange(3) % 2, "patient": np.array(["p0", "p1", "p2"]), "image": images}
    chosen = Settings(backbone="random:squeezenet1_1", features="plain", image_size=32)
    return Material(Examples(columns, Task("t", ("x", "y"))), chosen, ("identity",), 0, "dermoscopy")


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("robustness") / "run"
    main(arguments(out))
    return out


def test_a_finished_study_is_only_read(
    done: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    real = experiment._judged

    def counting(*words: object) -> object:
        asked.append(1)
        return real(*words)  # type: ignore[arg-type]

    monkeypatch.setattr(experiment, "_judged", counting)
    kept = sorted(done.glob("jpeg-5-*.json"))[0]
    before = kept.read_text()
    kept.unlink()
    main(arguments(done))
    assert len(asked) == 1 and kept.read_text() == before
    rows = capsys.readouterr().out.strip().splitlines()
    assert [row.split("|")[1].strip() for row in rows] == ["method", "-", "`discriminant`", "`local`"]
    with pytest.raises(ConfigError, match="another robustness study"):
        main(arguments(done, "seed=7"))


def test_an_ensemble_has_no_classifier_to_judge(tmp_path: Path) -> None:
    words = arguments(tmp_path / "run")
    words[3] = "discriminant,ensemble-local"
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
    cases = material()
    assert corrupted(cases, CLEAN, seed=0) is cases
    made = corrupted(cases, ("gaussian-noise", 3), seed=0)
    assert made.examples["patient"].tolist() == cases.examples["patient"].tolist()
    assert made.settings.cache == "off" and made.features().fingerprint == cases.features().fingerprint
    other = corrupted(cases, ("gaussian-noise", 3), seed=1)
    difference = made.examples["image"].astype(float) - other.examples["image"]
    assert 28 < difference.std() < 57  # twice noise of 0.12 of 255, clipped at black and white
    again = corrupted(cases.take(np.array([2])), ("gaussian-noise", 3), seed=0)
    np.testing.assert_array_equal(again.examples["image"][0], made.examples["image"][2])
    table_cases = replace(cases, examples=Examples({"table": np.zeros((2, 3))}, Task("t", ("x", "y"))))
    with pytest.raises(DataError, match="no images"):
        corrupted(table_cases, ("jpeg", 1), seed=0)
