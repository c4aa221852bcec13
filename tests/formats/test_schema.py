"""A schema says what it means, or is refused by table and key."""

import unicodedata
from pathlib import Path
from typing import Any

import pytest

from medtl_core.data.faults import Faults
from medtl_core.data.readers import Facts
from medtl_core.errors import DataError
from medtl_core.formats.schema_file import parse, shipped
from tests.formats.clinic import ROWS, SCHEMA, clinic, read

GOOD = """
classes = ["well", "ill"]
[roles]
label = "diagnosis"
[column.age]
type = "number"
unit = "years"
range = [0, 120]
[column.stage]
type = "category"
vocabulary = ["I", "II"]
"""


def test_the_agreed_meaning_has_units_ranges_and_vocabularies_but_nothing_of_a_hospitals_own_file() -> None:
    plain = parse(GOOD, "schema.toml").features
    assert plain == ("age (a, 0.0 to 120.0, about 60.0 by 30.0)", "stage=I", "stage=II", "stage=other")
    own = GOOD.replace('"years"', '"years"\nheader = "Alter"\nwritten = "mo"\nmissing = [-9]')
    assert parse(own + 'codes = { "1" = "I" }\n', "schema.toml").features == plain
    for change in ('"years"|"mo"', "120|110", '"I", "II"|"II", "I"'):
        assert parse(GOOD.replace(*change.split("|")), "schema.toml").features != plain


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("range = [0, 120]", "", r"column\.age.*range"),
        ("range = [0, 120]", "range = [120, 0]", "rise"),
        ("unit", "units", "'units'.*'unit'"),
        ('"years"', '"years"\nwritten = "yaers"', "yaers"),
        ('"number"', '"date"', "days since"),
        ('"number"', '"nummer"', "number, flag"),
        ('vocabulary = ["I", "II"]', "", "vocabulary"),
        ('vocabulary = ["I", "II"]', 'vocabulary = ["I", "II", "I"]', "each once"),
        ('vocabulary = ["I", "II"]', 'vocabulary = ["I"]\ncodes = { a = "III" }', "III"),
        ('label = "diagnosis"', 'event = "died"', "time together"),
        ('label = "diagnosis"', 'event = "died"\ntime = "days"', "describe the time"),
        ('label = "diagnosis"', 'label = "stage"', "twice"),
        ('"well", "ill"', '"well"', "two distinct"),
        ("[roles]", "[rolls]", "roles"),
        ("[roles]", "[encoder]\nfile = 'e.safetensors'\n[roles]", "sha256"),
        ("[roles]", "[roles", "TOML"),
    ],
)
def test_a_schema_that_cannot_be_meant_is_refused_by_table_and_key(old: str, new: str, words: str) -> None:
    with pytest.raises(DataError, match=words) as refused:
        parse(GOOD.replace(old, new, 1), "schema.toml")
    assert "schema.toml" in str(refused.value)


def test_known_sets_come_with_their_schema() -> None:
    heart, brca = shipped("heart_uci"), shipped("tcga_brca")
    assert len(heart.features) == 22 and heart.time is None
    assert len(brca.features) == 39 and brca.time is not None


def records(folder: Path, stage: str, smoker: str, glucose: str, schema: str = SCHEMA) -> tuple[Facts, Faults]:
    """Twenty patients at each of two hospitals, those of the south with these words."""
    lines = [f"N{k},north,{('no', 'yes')[k % 2]},5.{k % 9},no,I" for k in range(20)]
    lines += [f"S{k},south,{('no', 'yes')[k % 2]},{glucose},{smoker},{stage}" for k in range(20)]
    _, facts, faults = read(clinic(folder, "\n".join([ROWS.splitlines()[0], *lines]), schema))
    return facts, faults


@pytest.mark.parametrize(("stage", "whole"), [("1", True), ("Stadium 1", True), ("II", False), ("unknown", False)])
def test_a_hospital_none_of_whose_words_is_known_is_not_all_other(tmp_path: Path, stage: str, whole: bool) -> None:
    _, faults = records(tmp_path, stage, "no", "5")
    assert [fault.cause for fault in faults.causes] == [
        "column 'stage': no code at 'south' is in its vocabulary"
    ] * whole and [fault.remedy for fault in faults.causes] == ["say in codes what each stands for: I, II"] * whole


def test_a_vocabulary_may_have_a_word_that_elsewhere_says_that_a_value_is_missing(tmp_path: Path) -> None:
    spoken = SCHEMA.replace('["I", "II"]', '["I", "II", "unknown"]')
    _, faults = records(tmp_path, "unknown", "no", "5", spoken)
    examples, facts, _ = read(tmp_path)
    assert not faults.causes and examples["table"][-1, facts.columns.index("stage=unknown")] == 1.0


@pytest.mark.parametrize(("word", "value"), [("ja", 1.0), ("J", 1.0), ("nein", 0.0), ("WAHR", 1.0), ("Falsch", 0.0)])
def test_a_flag_is_said_in_german_too(tmp_path: Path, word: str, value: float) -> None:
    facts, faults = records(tmp_path, "II", word, "5")
    examples, _, _ = read(tmp_path)
    assert not faults.causes and examples["table"][-1, facts.columns.index("smoker (flag)")] == value


def test_remedies_of_records_name_what_the_schema_lacks(tmp_path: Path) -> None:
    plain = SCHEMA.replace('analyte = "glucose"\n', "")
    _, faults = records(tmp_path, "II", "vielleicht", "95", plain)
    remedies = " ".join(fault.remedy for fault in faults.causes)
    assert "name it in yes or no in the schema" in remedies
    assert "say written = 'mg/dL' and analyte = 'glucose' in the schema: most would fit" in remedies
    agreed = SCHEMA.replace("range = [1, 40]", 'range = [1, 40]\nwritten = "mg/dL"')
    _, faults = records(tmp_path, "II", "no", "5", agreed)
    assert "leave 'written' and the like out of the schema: in mmol/L most would fit" in faults.causes[0].remedy


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_a_schema_is_read_however_an_editor_writes_letters(tmp_path: Path, form: Any) -> None:
    rows, schema = (text.replace("glucose,", "gr\u00f6\u00dfe,") for text in (ROWS, SCHEMA))
    schema = schema.replace("[column.glucose]", '[column."gr\u00f6\u00dfe"]').replace('"II"]', '"II", "\u00e9"]')
    other = {"NFC": "NFD", "NFD": "NFC"}[form]
    rows = rows.replace(",IV", ",\u00e9")
    clinic(tmp_path, unicodedata.normalize(other, rows), "\ufeff" + unicodedata.normalize(form, schema))
    examples, facts, faults = read(tmp_path)
    assert not faults.causes and facts.columns[0].startswith("gr\u00f6\u00dfe (mmol/L")
    assert examples["table"][2, facts.columns.index("stage=\u00e9")] == 1.0
