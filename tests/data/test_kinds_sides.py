"""What a simulation looks at: images that cannot be read, and a test-path that was trained on."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from medtl_core.cli.simulate import simulate
from medtl_core.config import Settings
from medtl_core.data.shared import check_sides, judged_rows, shared_parts, shared_source
from medtl_core.errors import DataError
from medtl_core.flower.run import RunPlan

ROOT = Path(__file__).resolve().parents[2]


def pictures(folder: Path, cases: int = 24, *, first: int = 0, patient: str = "p", split: str = "train") -> Path:
    """Cases of two classes at two hospitals, no two pictures alike."""
    rng = np.random.default_rng(first)
    rows = ["path,label,patient_id,site,split"]
    folder.mkdir(parents=True)
    for number in range(cases):
        pixels = rng.integers(0, 256, (8, 8), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
        site = "north" if number < cases // 2 else "south"
        rows.append(f"{number}.png,{'xy'[number % 2]},{patient}{number},{site},{split}")
    (folder / "manifest.csv").write_text("\n".join(rows) + "\n")
    return folder


def simulation(folder: Path, test: Path | None = None, **more: str | int) -> Settings:
    places = {"data_path": str(folder), "test_path": "/elsewhere" if test is None else str(test)}
    return Settings(data="", sites=2, shots=0).replace(**places | more)


def run(data: Path, out: Path, test: str = "") -> dict[str, Any]:
    """The result of a small simulation of `data` under a network of random weights."""
    values = {"backbone": "lite0", "methods": "local", "cache": "off", "bootstrap": 5, "image_size": 32}
    settings = simulation(data, data, **values).replace(test_path=test)
    simulate(RunPlan(settings, 1, 1, False, out, ROOT, "damaged"))
    return json.loads((out / "seed-0" / "result.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("damage", [b"", b"not an image", None])
def test_one_broken_image_costs_that_case_and_is_named_at_its_hospital(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: bytes | None
) -> None:
    data = pictures(tmp_path / "data", 48)
    pixels = (data / "0.png").read_bytes()
    (data / "0.png").write_bytes(pixels[: len(pixels) // 2] if damage is None else damage)
    result = run(data, tmp_path / "out")
    assert caplog.text.count("left out:") == caplog.text.count("0.png") == 1
    (note,) = [note for note in result["data"]["notes"] if note.startswith("Left out")]
    assert "(1 case)" in note and "0.png" not in note
    assert sum(result["sites"].values()) + result["test"]["cases"] == 47


@pytest.mark.parametrize("broken", [3, 12])
def test_more_than_a_tenth_of_broken_images_stops_their_hospital(tmp_path: Path, broken: int) -> None:
    data = pictures(tmp_path / "data")
    for number in range(broken):
        (data / f"{number}.png").write_bytes(b"")
    result = run(data, tmp_path / "out", str(pictures(tmp_path / "test", first=9, patient="q")))
    assert list(result["sites"]) == ["south"]
    assert {failure["site"] for failure in result["failures"]} == {"north"}


@pytest.mark.parametrize("change", ["all", "patient", "bytes", "id as a number"])
def test_a_test_path_that_was_trained_on_is_refused(tmp_path: Path, change: str) -> None:
    train = pictures(tmp_path / "train", patient="1")
    test = train if change == "all" else pictures(tmp_path / "test", first=9, patient="2")
    if change == "bytes":
        (test / "5.png").write_bytes((train / "6.png").read_bytes())
    if change in ("patient", "id as a number"):
        table = test / "manifest.csv"
        table.write_text(table.read_text().replace(",25,", ",15," if change == "patient" else ",15.0,"))
    with pytest.raises(DataError, match="in 'train' and 'test-path'"):
        check_sides(simulation(train, test))


def test_a_test_path_of_its_own_is_taken_and_judged_by_its_split(tmp_path: Path) -> None:
    train, test = pictures(tmp_path / "train"), pictures(tmp_path / "test", first=9, patient="q")
    check_sides(simulation(train, test))
    assert len(judged_rows(shared_source(simulation(test, test)).examples)) == 24
    table = tmp_path / "test" / "manifest.csv"
    table.write_text(table.read_text().replace("north,train", "north,test"))
    judged = shared_source(simulation(test, test, sites=1)).examples
    assert set(judged["site"][judged_rows(judged)]) <= {"north", "south"}


@pytest.mark.parametrize(
    ("header", "labels", "words"),
    [("a,c", "xy", "other columns than the data: b, c"), ("a,b,c", "xy", "columns"), ("a,b", "xz", "classes .*: y, z")],
)
def test_a_test_path_of_other_columns_or_classes_is_refused_by_name(
    tmp_path: Path, header: str, labels: str, words: str
) -> None:
    def table(folder: Path, names: str, classes: str, patient: str) -> Path:
        folder.mkdir()
        extra = ",1" * names.count(",")
        rows = [f"{classes[number % 2]},{patient}{number},{number}{extra}" for number in range(8)]
        (folder / "manifest.csv").write_text(f"label,patient_id,{names}\n" + "\n".join(rows) + "\n")
        return folder

    train, test = table(tmp_path / "train", "a,b", "xy", "p"), table(tmp_path / "test", header, labels, "q")
    with pytest.raises(DataError, match=words):
        check_sides(simulation(train, test, backbone="table"))


def test_class_folders_may_hold_files_of_the_same_names(tmp_path: Path) -> None:
    for place, seed in (("train", 1), ("test", 2)):
        rng = np.random.default_rng(seed)
        for name in ("fit", "sick"):
            (tmp_path / place / "data" / name).mkdir(parents=True)
            for number in range(4):
                pixels = rng.integers(0, 256, (8, 8), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / place / "data" / name / f"{number}.png")
    check_sides(simulation(tmp_path / "train" / "data", tmp_path / "test" / "data"))


@pytest.mark.parametrize("label", ["x", "y"])
def test_a_copy_with_another_label_is_refused(tmp_path: Path, label: str) -> None:
    folder = pictures(tmp_path / "data")
    (folder / "copy.png").write_bytes((folder / "0.png").read_bytes())
    table = folder / "manifest.csv"
    table.write_text(table.read_text() + f"copy.png,{label},p0,north,train\n")
    settings = simulation(folder)
    if label == "x":
        assert len(shared_parts(settings).sites) == 2
    else:
        with pytest.raises(DataError, match="byte-equal images with different labels"):
            check_sides(settings.replace(test_path=""))
