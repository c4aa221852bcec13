"""A head that learnt from records with a schema answers new rows: under agreed names, and under a hospital's own."""

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from medtl_core.cli.app import app
from medtl_core.errors import DataError
from medtl_core.formats.encoder import Encoder
from medtl_core.predict import Predictor, load
from tests.formats.clinic import SCHEMA, clinic, many, read
from tests.predict.heads import made_of_table

AGREED = "stage,smoker,glucose,ward\nI,no,5.0,x\nII,yes,9.5,x\nIV,,,x\n,1.0,21.0,x\n"
OWN = "Blutzucker;Raucher;Stadium\n90,0;-;1\n171,0;+;2\n-9;;9\n378,0;+;\n"
OWN_SCHEMA = (
    SCHEMA.replace('missing = ["-9"]', 'missing = ["-9"]\nheader = "Blutzucker"\nwritten = "mg/dL"')
    .replace('type = "flag"', 'type = "flag"\nheader = "Raucher"\nyes = ["+"]\nno = ["-"]')
    .replace('vocabulary = ["I", "II"]', 'vocabulary = ["I", "II"]\nheader = "Stadium"\ncodes = { 1 = "I", 2 = "II" }')
)


def head_of(folder: Path) -> tuple[Predictor, list[dict[str, float]]]:
    """A head on the columns of a hospital's folder, and its answers to what a run reads there."""
    examples, facts, _ = read(folder)
    predictor = made_of_table(folder, facts.columns)
    table = examples["table"]
    values = np.stack([np.nan_to_num(table), np.isnan(table)], axis=2).reshape(len(table), -1)
    logits = predictor.classifier.logits(values.astype(np.float32), None)  # type: ignore[arg-type]  # a table's alone
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return predictor, [dict(zip(predictor.classes, row, strict=True)) for row in shares.tolist()]


def answers(predictor: Predictor, place: Path) -> list[dict[str, float]]:
    return [dict(answer.probabilities) for answer in predictor.answers([place])]


def test_new_rows_are_read_as_those_it_was_trained_on(tmp_path: Path) -> None:
    predictor, expected = head_of(clinic(tmp_path / "hospital"))
    (tmp_path / "agreed.csv").write_text(AGREED)
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "new.csv").write_text(OWN)
    (tmp_path / "own" / "schema.toml").write_text(OWN_SCHEMA)
    for place in (tmp_path / "hospital", tmp_path / "agreed.csv", tmp_path / "own" / "new.csv"):
        for one, other in zip(answers(predictor, place), expected, strict=True):
            assert one == pytest.approx(other, abs=2e-3 if "own" in str(place) else 1e-6)  # mg/dL are rounded


def test_rows_are_read_through_the_encoder_that_the_schema_names(tmp_path: Path) -> None:
    header = "patient,hospital,relapse,glucose,smoker,stage,split\n"
    folder = clinic(tmp_path / "hospital", header + "\n".join(many("north", 30)) + "\n")
    examples, facts, _ = read(folder)
    encoder = Encoder.fit(examples["table"], examples["label"], facts.columns, 2)
    sha256 = encoder.save(folder / "north.safetensors")
    lines = f'[encoder]\nfile = "north.safetensors"\nsha256 = "{sha256}"\n'
    (folder / "schema.toml").write_text(SCHEMA + lines)
    predictor, expected = head_of(folder)
    assert answers(predictor, folder) == [pytest.approx(one, abs=1e-6) for one in expected]


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ("glucose,stage\n5.0,I\n", "'smoker' is missing"),
        ("glucose,smoker,stage\n", "holds no rows"),
        ("glucose,smoker,stage\n500,no,I\n", "out of its range, 1 to 40 mmol/L"),
        ("glucose,smoker,stage\n5.0,perhaps,I\n", "no word of its vocabulary"),
    ],
)
def test_a_table_that_does_not_fit_is_named_with_what_is_wrong(tmp_path: Path, rows: str, words: str) -> None:
    head_of(clinic(tmp_path / "hospital"))
    (tmp_path / "new.csv").write_text(rows)
    ended = CliRunner().invoke(app, ["predict", str(tmp_path / "hospital" / "made"), str(tmp_path / "new.csv")])
    assert ended.exit_code == 1 and words in ended.output + str(ended.exception)


def test_a_schema_that_agrees_on_something_else_is_refused(tmp_path: Path) -> None:
    folder = clinic(tmp_path / "hospital")
    predictor, _ = head_of(folder)
    (folder / "schema.toml").write_text(SCHEMA.replace("range = [1, 40]", "range = [1, 80]"))
    with pytest.raises(DataError, match=r"the head reads 'glucose \(mmol/L, 1.0 to 40.0"):
        answers(predictor, folder)


def test_what_is_no_table_is_told_the_columns_as_a_person_writes_them(tmp_path: Path) -> None:
    folder = clinic(tmp_path / "hospital")
    head_of(folder)
    with pytest.raises(DataError, match=r"glucose \(mmol/L\), smoker \(yes or no\), stage \(I or II or other\)"):
        load(folder / "made").cases([tmp_path / "film.png"])
