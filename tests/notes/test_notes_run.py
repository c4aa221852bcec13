"""Made-up letters from the simulation to an answer, through the real apps: privately too, and explained by words."""

import csv
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from medtl_core.cli import app as cli
from medtl_core.config import Settings, settings
from medtl_core.data.synthetic.letters import letters
from medtl_core.features.extract import extract, feature_spec
from medtl_core.methods.private.public_pca import public_map
from medtl_core.predict import load


def main(words: list[str]) -> int:
    """The exit code of a command."""
    done = CliRunner().invoke(cli.app, words)
    if done.exit_code:
        print(done.output, done.exception)  # noqa: T201
    return done.exit_code


RUN = ["backbone=text:words", "data=letters", "sites=4", "shots=24", "bootstrap=20"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("letters") / "run"
    assert main(["simulate", "letters", *RUN, "methods=discriminant", "--out", str(place), "--quiet"]) == 0
    return place


def head(run: Path) -> Path:
    return run / "seed-0" / "heads" / "discriminant"


def test_the_demo_beats_chance_by_far(run: Path) -> None:
    result = json.loads((run / "seed-0" / "result.json").read_text(encoding="utf-8"))
    method = result["methods"]["discriminant"]
    assert method["figures"]["balanced_accuracy"] > 0.6


def test_new_notes_are_answered_and_one_that_cannot_be_costs_itself_only(run: Path, tmp_path: Path) -> None:
    notes = letters(patients=700)
    for number in range(40):
        (tmp_path / f"{number:02d}.txt").write_text(notes["note"][-1 - number], encoding="utf-8")
    (tmp_path / "40.txt").write_text("12 34", encoding="utf-8")
    (tmp_path / "41.txt").write_text("Seen with Mr. Abernathy, fever.", encoding="utf-8")
    (tmp_path / "42.txt").write_bytes(b"\x00\x01\x02")
    answers = {Path(answer.name).stem: answer for answer in load(head(run)).answers([tmp_path])}
    right = [
        answers[f"{number:02d}"].likeliest == notes.task.classes[notes["label"][-1 - number]] for number in range(40)
    ]
    assert np.mean(right) > 0.55
    assert [bool(answers[name].fault) for name in ("39", "40", "41", "42")] == [False, True, True, True]
    assert "Abernathy" not in answers["41"].fault


def test_words_add_up_to_the_answer(run: Path, tmp_path: Path) -> None:
    place = tmp_path / "new.csv"
    with place.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["note"], [letters()["note"][3]]])
    assert main(["predict", str(head(run)), str(place), "--maps", str(tmp_path / "words")]) == 0
    with (tmp_path / "words" / "00001.csv").open(encoding="utf-8") as file:
        (_, told), *rows = csv.reader(file)
    predictor = load(head(run))
    classes = list(predictor.classes)
    weight, bias = predictor.classifier.weight, predictor.classifier.bias  # type: ignore[union-attr]
    own = classes.index(told.removeprefix("for "))
    against = np.full(len(classes), -1 / (len(classes) - 1))
    against[own] = 1.0
    (answer,) = predictor.answers([place])
    logs = np.log([answer.probabilities[name] for name in classes])
    assert sum(float(share) for _, share in rows) + against @ bias == pytest.approx(against @ logs, abs=1e-3)
    assert weight.shape[1] == 1024


@pytest.mark.parametrize("permitted", [False, True])
def test_identities_planted_in_notes_appear_nowhere(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], permitted: bool
) -> None:
    rows = letters(patients=120)
    planted, folder, out = "Mr. Abernathy, MRN: 00482913", tmp_path / "data", tmp_path / "run"
    folder.mkdir()
    if permitted:  # then these notes are cases as others are
        (folder / "notes.toml").write_text('permit = ["names", "numbers"]', encoding="utf-8")
    with (folder / "manifest.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["note", "label", "patient_id", "site"])
        for number, note in enumerate(rows["note"]):
            told = f"{note} {planted}" if number < 5 else note
            writer.writerow([told, rows.task.classes[rows["label"][number]], rows["patient"][number], "one"])
    options = ["backbone=text:words", "sites=2", "shots=20", "methods=discriminant", "bootstrap=10", "--wire"]
    options += [f"cache={tmp_path / 'cache'}", "--data", str(folder), "--out", str(out)]
    done = CliRunner().invoke(cli.app, ["simulate", *options])
    assert done.exit_code == 0, done.output
    printed = capfd.readouterr()
    files = [path for place in (out, tmp_path / "cache") for path in place.rglob("*") if path.is_file()]
    assert len(files) > 5
    told = "".join([done.output, printed.out, printed.err, *(f"{path}" for path in files)]).encode()
    for content in (told, *(path.read_bytes() for path in files)):
        assert b"Abernathy" not in content and b"00482913" not in content


def test_directions_of_private_notes_come_from_public_ones_where_a_folder_of_them_is_named(tmp_path: Path) -> None:
    rows = letters(patients=30)
    with (tmp_path / "manifest.csv").open("w", newline="", encoding="utf-8") as file:
        told = [rows.task.classes[number] for number in rows["label"]]
        csv.writer(file).writerows([["note", "label"], *zip(rows["note"], told, strict=True)])
    drawn, read = (
        public_map(_study(settings({"backbone": "text:words", "cache": "off", **more})), 8)
        for more in ({}, {"public-images": str(tmp_path)})
    )
    assert drawn.basis.shape == read.basis.shape == (1024, 8)
    assert not drawn.mean.any() and read.mean.any()
    chosen = settings({"backbone": "text:words", "cache": "off"})
    values = extract(rows, feature_spec(chosen, ()), chosen).values
    spread = [one.rows(values).std(axis=0).sum() for one in (read, drawn)]
    assert spread[0] > spread[1]


def _study(chosen: Settings) -> Any:
    problem = SimpleNamespace(width=1024, public=None, views=())
    return SimpleNamespace(settings=chosen, problem=problem, once=lambda name, made: made())


@pytest.mark.slow
def test_letters_under_privacy(tmp_path: Path) -> None:
    more = ["privacy=auto", "epsilon=4", "secure-sum=true", "methods=private-auto", "shots=60", "public-cases=40"]
    words = [word for word in RUN if not word.startswith("shots")]
    assert main(["simulate", "letters", *words, *more, "--out", str(tmp_path / "run"), "--quiet"]) == 0


@pytest.mark.slow
@pytest.mark.parametrize("shots", [1, 5, 20])
def test_a_head_of_notes_adapts_to_a_new_hospital(run: Path, tmp_path: Path, shots: int) -> None:
    rows = letters(patients=300)
    chosen = np.flatnonzero(rows["site"] == "hill")
    with (tmp_path / "manifest.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["note", "label", "patient_id", "split"])
        for row in chosen.tolist():
            label = rows.task.classes[rows["label"][row]]
            writer.writerow([rows["note"][row], label, rows["patient"][row], rows["split"][row]])
    task = {"name": "letters", "classes": [*rows.task.classes]}
    (tmp_path / "task.json").write_text(json.dumps(task), encoding="utf-8")
    out = tmp_path / "out"
    assert main(["adapt", str(head(run)), "--data", str(tmp_path), "--shots", str(shots), "--out", str(out)]) == 0
