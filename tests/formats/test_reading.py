"""Records become numbers with a meaning, or a row at fault that no message quotes."""

import re
from pathlib import Path

import numpy as np
import pytest

from medtl_core.errors import DataError
from tests.formats.clinic import ROWS, SCHEMA, clinic, read


def test_columns_are_scaled_flags_and_levels_with_gaps(tmp_path: Path) -> None:
    examples, facts, faults = read(clinic(tmp_path))
    nan = np.nan
    expected = [
        [(5.0 - 20.5) / 9.75, 0, 1, 0, 0], [(9.5 - 20.5) / 9.75, 1, 0, 1, 0],
        [nan, nan, 0, 0, 1], [(21.0 - 20.5) / 9.75, 1, nan, nan, nan],
    ]  # fmt: skip
    np.testing.assert_allclose(examples["table"], expected)
    assert facts.columns[2:] == ("stage=I", "stage=II", "stage=other") and faults.causes == ()
    assert examples["site"].tolist() == ["north", "north", "south", "south"]
    assert examples["label"].tolist() == [0, 1, 0, 1] and examples.task.classes == ("no", "yes")
    assert "1 of 4 codes" in facts.notes[0]  # IV counts as other, and that is said


def test_another_unit_header_and_other_codes_give_the_same_numbers(tmp_path: Path) -> None:
    plain = read(clinic(tmp_path / "a"))
    own = SCHEMA.replace('analyte = "glucose"', 'analyte = "glucose"\nwritten = "mg/dL"\nheader = "Blutzucker"')
    own = own.replace('["I", "II"]', '["I", "II"]\ncodes = { 1 = "I", 2 = "II" }').replace(
        'type = "flag"', 'type = "flag"\nyes = ["ja"]\nno = ["nein"]'
    )
    rows = """patient,Blutzucker,stage,hospital,smoker,relapse
P1,90.078,1,north,nein,no
P2,171.1482,2.0,north,JA,yes
P3,-9,4,south,,no
P4,378.3276,,south,ja,yes
"""
    other = read(clinic(tmp_path / "b", rows, own))
    np.testing.assert_allclose(other[0]["table"], plain[0]["table"], atol=1e-6)
    assert other[1].columns == plain[1].columns


def test_an_offset_takes_no_digit(tmp_path: Path) -> None:
    schema = SCHEMA.replace("range = [1, 40]", "range = [1e9, 1000000100]").replace('analyte = "glucose"\n', "")
    rows = ROWS.replace("5.0", "1000000005.0").replace("9.5", "1000000009.5").replace("21.0", "1000000021.0")
    examples, _, _ = read(clinic(tmp_path, rows, schema))
    np.testing.assert_allclose(examples["table"][[0, 1, 3], 0], (np.array([5, 9.5, 21]) - 50) / 25, atol=1e-7)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("9.5", "950", "glucose.*range, 1 to 40 mmol/L"),
        ("9.5", "nine", "glucose.*number"),
        ("9.5", "=A1+A2", "glucose.*formula"),
        (",II", ",=cmd|' /C calc'!A0", "stage.*formula"),
        (",yes,II", ",perhaps,II", "smoker.*vocabulary"),
        ("north,yes", "north,maybe", "relapse"),
        ("P2", "@SUM(A1)", "patient.*formula"),
        ("P2,", ",", "patient.*empty"),
        ("9.5", "12.03.2024", "glucose.*number"),
    ],
)
def test_a_row_that_cannot_be_meant_is_at_fault_by_row_and_column(
    tmp_path: Path, old: str, new: str, words: str
) -> None:
    _, _, faults = read(clinic(tmp_path, ROWS.replace(old, new, 1)))
    (fault,) = faults.causes
    assert faults.rows.tolist() == [1] and "3" in fault.places[0]
    assert re.search(words, str(fault)), fault
    assert all(len(word) < 3 or word not in str(fault) for word in new.split(","))


def test_a_closed_vocabulary_has_no_other(tmp_path: Path) -> None:
    _, facts, faults = read(clinic(tmp_path, schema=SCHEMA + "closed = true\n"))
    assert facts.columns[-1] == "stage=II" and faults.rows.tolist() == [2]


def test_values_in_another_unit_are_told_with_the_unit_that_would_fit(tmp_path: Path) -> None:
    rows = ROWS.replace("5.0", "90").replace("9.5", "171").replace("21.0", "378")
    _, _, faults = read(clinic(tmp_path, rows))
    assert "'mg/dL'" in str(faults.causes[0])


@pytest.mark.parametrize(
    ("header", "words"),
    [("glucose,smoker,stage", "patient"), ("patient,hospital,relapse,glucose,glucose,stage", "distinct"),
     ("patient,hospital,relapse,Glucose,smoker,stage", "glucose")],
)  # fmt: skip
def test_a_header_that_lacks_or_doubles_a_column_is_refused(tmp_path: Path, header: str, words: str) -> None:
    rows = "\n".join([header, *ROWS.splitlines()[1:]])
    with pytest.raises(DataError, match=words):
        read(clinic(tmp_path, rows))


def test_whether_a_row_counts_is_for_that_row_to_say(tmp_path: Path) -> None:
    whole, _, _ = read(clinic(tmp_path / "whole"))
    lines = ROWS.splitlines(keepends=True)
    for row in range(4):
        rest, _, faults = read(clinic(tmp_path / f"{row}", "".join(lines[: row + 1] + lines[row + 2 :])))
        np.testing.assert_array_equal(rest["table"], np.delete(whole["table"], row, axis=0))
        assert faults.causes == ()
