"""A hospital's folder of records, as its data manager would write it."""

from pathlib import Path

import numpy as np

from medtl_core.data.faults import Faults
from medtl_core.data.readers import Facts, reader_of
from medtl_core.values import Examples

SCHEMA = """
name = "relapse"
classes = ["no", "yes"]
file = "records.csv"

[roles]
id = "patient"
label = "relapse"
site = "hospital"

[column.glucose]
type = "number"
unit = "mmol/L"
analyte = "glucose"
range = [1, 40]
missing = ["-9"]

[column.smoker]
type = "flag"

[column.stage]
type = "category"
vocabulary = ["I", "II"]
"""
ROWS = """patient,hospital,relapse,glucose,smoker,stage
P1,north,no,5.0,no,I
P2,north,yes,9.5,yes,II
P3,south,no,-9,,IV
P4,south,yes,21.0,1.0,
"""


def clinic(folder: Path, rows: str = ROWS, schema: str = SCHEMA) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "schema.toml").write_text(schema, encoding="utf-8")
    (folder / "records.csv").write_text(rows, encoding="utf-8")
    return folder


def read(folder: Path) -> tuple[Examples, Facts, Faults]:
    faults = Faults()
    return *reader_of(folder).read(folder, None, faults), faults


def many(site: str, cases: int, seed: int = 0, *, event: bool = False) -> list[str]:
    """Lines of patients whose glucose, smoking and stage tell how it ends."""
    rng = np.random.default_rng(seed)
    lines = []
    for number in range(cases):
        glucose, smoker, stage = rng.normal(6, 1.5), rng.integers(2), rng.choice(["I", "II", "III"])
        risk = glucose - 6 + smoker + (stage == "III")
        end = (
            f"{int(risk + rng.normal() > 0.7)},{rng.exponential(300) / np.exp(risk / 2):.0f}"
            if event
            else ("yes" if risk + rng.normal() > 0.7 else "no")
        )
        split = "test" if number % 3 == 0 else "train"
        lines.append(f"{site}{number},{site},{end},{np.clip(glucose, 1, 40):.2f},{smoker},{stage},{split}")
    return lines
