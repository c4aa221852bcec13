"""The examples of docs/data.md are read as they stand there."""

import re
from pathlib import Path

from medtl_core.formats.schema_file import parse
from tests.formats.clinic import clinic, read
from tests.house import ROOT

SECTION = (ROOT / "docs" / "data.md").read_text(encoding="utf-8").partition("\n## Records\n")[2].partition("\n## ")[0]
ROWS, SCHEMA, OWN, SURVIVAL = re.findall(r"```(?:toml)?\n(.*?)```", SECTION, re.DOTALL)


def test_the_first_example_is_read_and_a_hospital_with_another_file_has_the_same_columns(tmp_path: Path) -> None:
    examples, facts, faults = read(clinic(tmp_path / "a", ROWS, SCHEMA))
    assert (len(examples), faults.causes, len(facts.columns)) == (3, (), 5)
    start, end = SCHEMA.index("[column.glucose]"), SCHEMA.index("[column.smoker]")
    rows = ROWS.replace("glucose", "Blutzucker").replace("5.0", "90.078").replace("9.5", "171.148")
    other, names, _ = read(clinic(tmp_path / "b", rows.replace("-9", ""), SCHEMA[:start] + OWN + "\n" + SCHEMA[end:]))
    assert names.columns == facts.columns
    assert abs(other["table"][:2] - examples["table"][:2]).max() < 1e-4


def test_the_example_of_survival_is_a_schema() -> None:
    schema = parse(SURVIVAL, "schema.toml")
    assert schema.time is not None and schema.features == ("smoker (flag)",)
