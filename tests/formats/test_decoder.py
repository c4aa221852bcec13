"""Many files asked of limited processes: requests ahead of answers, in order, and each file's fault its own."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from medtl_core.data.faults import Faults
from medtl_core.data.images import read_each, read_pictures
from medtl_core.errors import DataError
from medtl_core.formats import decoder as decoder_module
from medtl_core.formats.decoder import Child, Decoder, side_by_side
from medtl_core.formats.image_check import check_images
from medtl_core.values import Examples, Task
from tests.formats.dicom_made import dicom


@pytest.fixture
def own() -> Iterator[Decoder]:
    made = Decoder()
    yield made
    made.close()


def _file(path: Path, level: int, side: int = 8) -> Path:
    return dicom(path, np.full((side, side), level, np.uint8), WindowCenter=128, WindowWidth=256)


def _levels(found: Any) -> list[int] | str:
    return str(found) if isinstance(found, DataError) else [int(picture[0, 0, 0]) for picture in found[1]]


def test_answers_come_in_order_and_a_refusal_is_its_file_s_own(own: Decoder, tmp_path: Path) -> None:
    files = [_file(tmp_path / f"{level}.dcm", level) for level in (10, 20, 30, 40)]
    dicom(files[1], np.zeros((8, 8), np.uint8), PatientName="DOE^JANE")
    asked = [*files, tmp_path / "none.dcm", files[0]]
    found = [_levels(one) for one in own.ask_each("pictures", asked)]
    assert found[:1] + found[2:4] + found[5:] == [[10], [30], [40], [10]]
    assert "names of persons" in found[1] and "JANE" not in found[1]
    assert found[4] == "no such file"
    assert len(own._idle) == min(4, os.cpu_count() or 1)  # so many processes did all that
    assert not [*own.ask_each("pictures", [])]


@pytest.mark.slow
def test_a_process_that_dies_costs_the_file_it_was_at(tmp_path: Path) -> None:
    own = Decoder(5)
    files = [_file(tmp_path / f"{level}.dcm", level) for level in (10, 20, 30)]
    os.mkfifo(tmp_path / "endless.dcm")
    asked = [files[0], tmp_path / "endless.dcm", *files[1:] * 3, tmp_path / "endless.dcm", files[2]]
    found = [_levels(one) for one in own.ask_each("pictures", asked)]
    own.close()
    late = "takes more than 5 s to decode"
    assert found == [[10], late, *[[20], [30]] * 3, late, [30]]


def test_who_stops_early_leaves_no_answer_to_others(own: Decoder, tmp_path: Path) -> None:
    files = [_file(tmp_path / f"{level}.dcm", level) for level in (10, 20, 30)]
    answers = own.ask_each("pictures", files)
    assert _levels(next(answers)) == [10]
    answers.close()  # type: ignore[attr-defined]
    assert not own._idle and _levels(own.ask("pictures", files[2])) == [30]


def test_pictures_without_room_in_shared_memory_come_all_the_same(
    own: Decoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoder_module, "_ROOM", 5000)
    frames = np.arange(3 * 50 * 50, dtype=np.uint8).reshape(3, 50, 50)
    path = dicom(tmp_path / "a.dcm", frames, NumberOfFrames=3, WindowCenter=128, WindowWidth=256)
    replies = [*own.ask_each("pictures", [path, path, path])]
    for _, pictures in replies:  # type: ignore[misc]
        assert np.array_equal(np.stack(pictures)[..., 0], frames)


@pytest.mark.parametrize("reply", [b'{"shapes": [[2, 2, 1]]}\n', b"none\n", b""])
def test_what_is_no_answer_is_not_taken_for_one(reply: bytes, tmp_path: Path) -> None:
    (tmp_path / "reply").write_bytes(reply)
    with (tmp_path / "reply").open("rb") as replies:
        child = Child(["true"])
        child.stdout = replies
        with pytest.raises((EOFError, ValueError)):
            child.answer()
        child.wait()


def test_cases_of_all_kinds_are_read_in_order(tmp_path: Path) -> None:
    photograph = tmp_path / "a.png"
    Image.new("L", (8, 8), 7).save(photograph)
    cases = [_file(tmp_path / "a.dcm", 50), photograph, np.full((8, 8), 9, np.uint8), _file(tmp_path / "b.dcm", 60)]
    assert [pictures[0][0, 0].tolist() for pictures in read_each(cases)] == [[50] * 3, [7] * 3, [9] * 3, [60] * 3]
    dicom(tmp_path / "b.dcm", np.zeros((8, 8), np.uint8), PatientName="DOE^JANE")
    reading = read_each(cases)
    assert [next(reading)[0][0, 0, 0] for _ in range(3)] == [50, 7, 9]
    with pytest.raises(DataError, match=r"b\.dcm: the header holds names of persons"):
        next(reading)
    for name in (tmp_path / "gone.dcm", "no\0name.dcm", "x" * 5000):
        with pytest.raises(DataError, match="no such image file"):
            read_pictures(name)


def test_files_are_checked_in_order_and_each_is_looked_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [_file(tmp_path / f"{level}.dcm", level) for level in range(1, 41)]
    for place in (3, 17, 38):
        paths[place].write_bytes(b"\0" * 128 + b"DICM")
    paths[20].unlink()
    names = np.array([str(path) for path in [*paths, paths[3]]])
    examples = Examples({"label": np.zeros(41, np.int64), "path": names}, Task("none", ("a", "b")))
    looked, request = list[str](), Child.request

    def counted(child: Child, job: str, path: Path) -> None:
        looked.append(path.name)
        request(child, job, path)

    monkeypatch.setattr(Child, "request", counted)
    check_images(examples, range(41), found := Faults())
    assert found.rows.tolist() == [3, 17, 20, 38, 40]
    assert sorted(looked) == sorted(path.name for path in paths if path != paths[20])


def test_work_side_by_side_keeps_its_order() -> None:
    for count in (0, 1, 7, 100, 1000):
        assert [*side_by_side(lambda group: [2 * case for case in group], range(count))] == [*range(0, 2 * count, 2)]
