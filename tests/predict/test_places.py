"""What people name to `medtl predict`: odd file names, pipes, links, closed folders, a run in place of a head."""

import csv
import io
import json
import os
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from medtl_core.cli.app import app
from tests.formats.dicom_made import dicom
from tests.predict.heads import made

NAMES = ("line\nbreak.png", "red\x1b[31m.png", "latin\udce9.png", "plain.png")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made(tmp_path / "heads")
    place = tmp_path / "films"
    place.mkdir()
    for grey, name in enumerate(NAMES):
        Image.linear_gradient("L").rotate(90 * grey).save(place / name)
    return tmp_path


def ask(folder: Path, *words: object) -> Result:
    return CliRunner().invoke(app, ["predict", str(folder / "heads" / "made"), *map(str, words)])


def test_a_name_is_one_line_that_no_terminal_obeys(folder: Path) -> None:
    said = ask(folder, folder / "films").stdout
    assert "\x1b" not in said and len([line for line in said.splitlines() if ".png  " in line]) == len(NAMES)
    assert r"line\nbreak.png" in said and r"red\x1b[31m.png" in said and r"latin\udce9.png" in said


@pytest.mark.parametrize("form", ["text", "json", "jsonl", "csv", "html", "fhir"])
def test_a_file_of_answers_holds_every_name_and_a_format_that_reads(folder: Path, form: str) -> None:
    ended = ask(folder, folder / "films", "--format", form, "--out", folder / "answers")
    assert ended.exit_code == 0, ended.output
    text = (folder / "answers").read_text(encoding="utf-8")
    if form == "csv":
        names = [Path(row["case"]).name for row in csv.DictReader(io.StringIO(text, newline=""))]
        assert sorted(names) == sorted(name.replace("\udce9", r"\udce9") for name in NAMES)
    if form == "json":
        assert sorted(Path(one["case"]).name for one in json.loads(text)["answers"]) == sorted(NAMES)


def test_maps_of_odd_and_long_names_are_files(folder: Path) -> None:
    long = folder / "films" / f"{'x' * 250}.png"
    (folder / "films" / "plain.png").rename(long)
    assert ask(folder, folder / "films", "--maps", folder / "maps").exit_code == 0
    assert len(found := sorted((folder / "maps").iterdir())) == len(NAMES)
    assert all(file.name.isprintable() for file in found)


@pytest.mark.parametrize(("place", "words"), [("heads", "heads/made"), ("films", "no head in it")])
def test_a_folder_is_no_head_and_those_in_it_are_named(folder: Path, place: str, words: str) -> None:
    for command in ("predict", "serve", "export", "adapt"):
        more = {"predict": ["x.png"], "export": ["--out", "x"], "adapt": ["--data", "phantom"]}.get(command, [])
        ended = CliRunner().invoke(app, [command, str(folder / place), *more])
        assert words in str(ended.exception)


def test_a_pipe_and_a_link_to_a_folder_are_left_and_named(folder: Path) -> None:
    os.mkfifo(folder / "films" / "pipe.png")
    (folder / "more").mkdir()
    (folder / "films" / "linked").symlink_to(folder / "more")
    ended = ask(folder, folder / "films")
    assert ended.exit_code == 0 and "linked" in ended.stderr and "pipe.png" in ended.stderr


def test_slices_of_a_series_are_one_case_wherever_their_folder_lies(folder: Path) -> None:
    pixels = np.arange(400, dtype=np.uint8).reshape(20, 20)
    for name, number in (("a/series/1.dcm", 7), ("a/series/2.dcm", 7), ("b/1.dcm", 8), ("b/2.dcm", 9)):
        (folder / "new" / name).parent.mkdir(parents=True, exist_ok=True)
        dicom(folder / "new" / name, pixels, SeriesInstanceUID=f"1.2.{number}", InstanceNumber=int(name[-5]))
    (folder / "new" / "a" / "series" / "Thumbs.db").touch()
    ended = ask(folder, folder / "new", "--format", "csv")
    cases = [row["case"] for row in csv.DictReader(io.StringIO(ended.stdout)) if row["answer"]]
    assert cases == [str(folder / "new" / name) for name in ("a/series", "b/1.dcm", "b/2.dcm")]


def test_a_folder_that_may_not_be_read_is_not_passed_over(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed, listed = folder / "films" / "closed", os.scandir
    closed.mkdir()

    def scan(place: str | Path) -> object:
        if Path(place) == closed:
            raise PermissionError(13, "Permission denied", str(place))
        return listed(place)

    monkeypatch.setattr(os, "scandir", scan)
    ended = ask(folder, folder / "films")
    assert ended.exit_code == 1 and f"{closed} cannot be read" in str(ended.exception)


def test_answers_that_were_interrupted_are_called_partial(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> object:
        raise KeyboardInterrupt

    monkeypatch.setattr("medtl_core.predict.output.json.dumps", interrupted)
    ask(folder, folder / "films", "--format", "jsonl", "--out", folder / "answers")
    assert not (folder / "answers").exists() and (folder / "answers.partial").exists()


def test_a_page_has_a_map_of_each_picture_where_it_is_asked_to_explain(folder: Path) -> None:
    page = ask(folder, folder / "films", "--format", "html", "--explain").stdout
    assert page.count('<img src="data:image/png;base64,') == len(NAMES) and "holds pictures of the cases" in page
    assert "img-src data:" in page
    page = ask(folder, folder / "films", "--format", "html").stdout
    assert "<img" not in page and "holds pictures" not in page
