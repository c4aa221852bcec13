"""Fusion through the real apps: kinds of a table's columns, images beside notes, hospitals that lack one of them."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from medtl_core.cli import app as cli
from medtl_core.cli.adapt import adapt
from medtl_core.data.synthetic.letters import letters
from medtl_core.predict import load
from medtl_core.rng import stream


def simulated(folder: Path, out: Path, *words: str) -> dict[str, Any]:
    """The methods of a run's result."""
    order = ["simulate", "--data", str(folder), *words, "bootstrap=10", "--out", str(out), "--quiet"]
    done = CliRunner().invoke(cli.app, order)
    assert done.exit_code == 0, (done.output, done.exception)
    return dict(json.loads((out / "seed-0" / "result.json").read_text(encoding="utf-8"))["methods"])


def write(folder: Path, header: list[str], rows: Sequence[Sequence[object]]) -> Path:
    folder.mkdir()
    with (folder / "manifest.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    return folder


def test_kinds_of_columns_are_fused_and_a_hospital_without_genes_takes_part(tmp_path: Path) -> None:
    rng, rows = stream(0, "kinds"), []
    for number in range(240):
        ill, site = number % 2, ("north", "south")[number // 2 % 2]
        clinic = rng.standard_normal(2) + ill
        genes = rng.standard_normal(3) + 0.8 * ill
        told = ["" if site == "south" else f"{gene:.4f}" for gene in genes]
        rows.append([["well", "ill"][ill], f"p{number}", site, *(f"{value:.4f}" for value in clinic), *told])
    header = ["label", "patient_id", "site", "clinic:a", "clinic:b", "gene:a", "gene:b", "gene:c"]
    place = write(tmp_path / "data", header, rows)
    methods = simulated(place, tmp_path / "run", "backbone=table", "methods=fusion,fusion-alone", "sites=2", "shots=80")
    facts, alone = methods["fusion"]["facts"], methods["fusion-alone"]["facts"]
    assert set(facts["weights"]) == {"table.clinic", "table.gene"}
    assert min(facts["weights"].values()) > 0
    assert alone["weights"] == {"table.clinic": 1.0, "table.gene": 0.0}  # the other one answers nothing in the south
    figures = [method["figures"]["balanced_accuracy"] for method in methods.values()]
    assert figures[0] >= figures[1] > 0.7
    predictor = load(tmp_path / "run" / "seed-0" / "heads" / "fusion")
    new = write(tmp_path / "new", header[3:], [["1.9", "2.0", "", "", ""], ["", "", "1.5", "1.9", "1.4"], [""] * 5])
    answers = [*predictor.answers([new / "manifest.csv"])]
    assert [answer.likeliest for answer in answers[:2]] == ["ill", "ill"]
    assert all(not answer.fault for answer in answers)
    fewer = write(tmp_path / "other", header, [[*row[:2], "west", *row[3:]] for row in rows[:60]])
    found = adapt(tmp_path / "run" / "seed-0" / "heads" / "fusion", str(fewer), shots=5, out=tmp_path / "own")
    assert found["kind"] == "fused" and found["cases"] == {"ill": 5, "well": 5} and found["judged"] == 50
    assert found["after"]["auroc"] > 0.8 and load(tmp_path / "own").classes == ("ill", "well")


def test_a_note_and_a_table_are_fused_and_a_hospital_without_notes_takes_part_and_is_answered(tmp_path: Path) -> None:
    made, rng, rows = letters(patients=160), stream(0, "table"), []
    for number, note in enumerate(made["note"]):
        label, site = int(made["label"][number]), "ab"[number % 2]
        cells = [f"{value:.4f}" for value in rng.standard_normal(2) + label]
        note, cells = ("" if site == "b" else note), ["", ""] if site == "a" and number % 5 == 0 else cells
        patient = f"p{made['patient'][number]}"
        rows.append([note, made.task.classes[label], f"{site}{patient}", site, made["split"][number], *cells])
    place = write(tmp_path / "data", ["note", "label", "patient_id", "site", "split", "a", "b"], rows)
    words = ["backbone=text:words+table", "sites=2", "shots=0", "methods=fusion,fusion-alone,auto"]
    methods = simulated(place, tmp_path / "run", *words, f"cache={tmp_path / 'cache'}")
    assert set(methods["fusion"]["facts"]["weights"]) == {"text:words", "table"}
    assert methods["fusion"]["figures"]["auroc"] > 0.75
    heads = tmp_path / "run" / "seed-0" / "heads"
    ill = made.task.classes[1]
    (tmp_path / "new.csv").write_text("a,b,ward\n1.5,2,1\n,,2\n", encoding="utf-8")
    told, nothing = load(heads / "fusion").answers([tmp_path / "new.csv"])
    assert told.probabilities[ill] > told.probabilities[made.task.classes[0]] and nothing.doubt
    note = next(note for note, label in zip(made["note"], made["label"], strict=True) if label == 1)
    write(tmp_path / "both", ["b", "note", "a"], [[2, note, 1.5], ["", note, ""]])
    order = ["predict", str(heads / "auto"), str(tmp_path / "both"), "--explain", "--format", "jsonl"]
    done = CliRunner().invoke(cli.app, order)
    assert done.exit_code == 0, done.output
    for line in done.stdout.splitlines():
        assert {*json.loads(line)["parts"]} == {"text:words", "table"}


@pytest.mark.slow
def test_a_case_without_its_image_or_its_note_is_learnt_from_and_judged(tmp_path: Path) -> None:
    from PIL import Image

    made, rows = letters(patients=200), []
    dice = stream(0, "pictures")
    (tmp_path / "images").mkdir()
    for number, note in enumerate(made["note"]):
        label = int(made["label"][number])
        pixels = dice.integers(0, 60, (32, 32)) + 60 * label
        Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / "images" / f"{number}.png")
        image, text = str(tmp_path / "images" / f"{number}.png"), note
        if number % 5 == 0:
            image = ""
        elif number % 5 == 1:
            text = ""
        rows.append([image, text, made.task.classes[label], made["patient"][number], made["split"][number]])
    place = write(tmp_path / "data", ["path", "note", "label", "patient_id", "split"], rows)
    words = [
        "backbone=random:squeezenet1_1+text:words",
        "image-size=32",
        "features=plain",
        "sites=2",
        "shots=60",
        "partition=even",
    ]
    methods = simulated(place, tmp_path / "run", *words, "methods=fusion,auto", f"cache={tmp_path / 'cache'}")
    assert set(methods["fusion"]["facts"]["weights"]) == {"random:squeezenet1_1", "text:words"}
    assert methods["fusion"]["figures"]["balanced_accuracy"] > 0.5
