"""Limits of a table's columns, which a run leaves with its heads, and what `medtl predict` says beyond them."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from medtl_core.cli import app as cli
from medtl_core.cli.simulate import simulate
from medtl_core.config import settings
from medtl_core.errors import WeightsError
from medtl_core.flower.run import RunPlan
from medtl_core.predict import load
from medtl_core.predict.saved import load_head, save_head

ROOT = Path(__file__).resolve().parents[2]
FAR, OVER, GAP = "holds a value far from", "is, over all rows, far from", "is empty, and no case"
HEADER = "age,chol,rare,smokes"

pytestmark = pytest.mark.usefixtures("one_torch_thread")


def federation(folder: Path, **words: object) -> Path:
    """The heads of two hospitals of 60 cases: of every column the mean and the deviation are known."""
    rows = [f"label,site,patient_id,split,{HEADER}"]
    for number in range(160):
        label, site, split = ("well", "ill")[number // 2 % 2], "ab"[number % 2], "train" if number < 120 else "test"
        age, chol, rare = (55, 45)[number % 2], "" if number % 8 == 7 else 4 + number % 3, 7 if number < 9 else ""
        rows.append(f"{label},{site},p{number},{split},{age},{chol},{rare},{number // 4 % 2}")
    (folder / "table.csv").write_text("\n".join(rows) + "\n")
    values = {"data": "", "data-path": str(folder / "table.csv"), "backbone": "table", "sites": 2, "shots": 0}
    chosen = settings({**values, "methods": "ridge,local,network-1", "bootstrap": 1, "cache": "off", **words})
    simulate(RunPlan(chosen, 1, 1, False, folder / "run", ROOT, "table"))
    return folder / "run" / "seed-0" / "heads"


@pytest.fixture(scope="module")
def heads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return federation(tmp_path_factory.mktemp("plain"))


def told(heads: Path, name: str = "ridge") -> dict[str, list[float | None]]:
    return json.loads((heads / f"{name}.json").read_text())["facts"].get("usual", {})


def test_limits_are_ten_deviations_from_the_mean_and_of_few_cases_none(heads: Path) -> None:
    # age 50 +- 10 x 5; chol 5 +- 10 x sqrt(2/3), 35 cases each of 4, 5 and 6; rare of nine cases; smokes is 0 or 1
    low, high, always = [0, -3.17, None, 0], [100, 13.17, None, 1], [True, False, False, True]
    assert told(heads) == {"low": low, "high": high, "always": always}
    assert told(heads, "network-1") == told(heads) and told(heads, "local@a") == {}


def test_no_training_case_of_a_column_that_is_nearly_always_0_is_far(tmp_path: Path) -> None:
    rows = (
        f"{('well', 'ill')[row // 2 % 2]},{'ab'[row % 2]},p{row},train,{row % 7},{9 * (row == 5)}" for row in range(160)
    )
    (tmp_path / "table.csv").write_text("\n".join(["label,site,patient_id,split,age,rare", *rows, "ill,a,q,test,1,0"]))
    values = {"data": "", "data-path": str(tmp_path / "table.csv"), "backbone": "table", "sites": 2, "shots": 0}
    chosen = settings({**values, "methods": "ridge", "bootstrap": 1, "cache": "off"})
    simulate(RunPlan(chosen, 1, 1, False, tmp_path / "run", ROOT, "table"))
    (tmp_path / "new.csv").write_text("age,rare\n3,9\n3,90\n3,0\n")
    answers = load(tmp_path / "run" / "seed-0" / "heads" / "ridge").answers([tmp_path / "new.csv"])
    assert [FAR in answer.doubt for answer in answers] == [False, True, False]


@pytest.mark.parametrize("words", [{"privacy": "auto", "epsilon": 4.0, "public-cases": 20}, {"methods": "records"}])
def test_nothing_is_told_under_privacy_nor_where_no_sums_came(tmp_path: Path, words: dict[str, object]) -> None:
    heads = federation(tmp_path, **{"methods": "ridge", **words})
    assert [told(heads, file.stem) for file in heads.glob("*.json")] == [{}]


@pytest.mark.parametrize("form", ["jsonl", "csv", "text", "html", "fhir"])
@pytest.mark.parametrize(("rows", "doubts"), [
    (["50,-999,,0", "50,5,,1"], ["column 'chol' " + FAR, ""]),
    (["50,193,7,0", "18250,5,,1"], ["column 'chol' " + FAR, "column 'age' " + FAR]),
    (["77777,77777,77777,9"], ["column 'age' (and 'chol', 'smokes') " + FAR]),
    ([",5,,0", "50,,,0"], ["column 'age' " + GAP, ""]),
    (["50,5,,1", "50,5,,2"], ["column 'smokes' " + OVER, "column 'smokes' " + FAR]),
    (["50,5,,0", "50,5,,2"], ["", "column 'smokes' " + FAR]),
    (["0.5,5,,0"] * 10, ["column 'age' " + OVER] * 10),
    (["0.5,5,,0"] * 9 + ["77777,5,,0"], [""] * 9 + ["column 'age' " + FAR]),
])  # fmt: skip
def test_far_values(heads: Path, tmp_path: Path, rows: list[str], doubts: list[str], form: str) -> None:
    (tmp_path / "new.csv").write_text("\n".join([HEADER, *rows]) + "\n")
    for name in ("ridge", "network-1"):
        ended = CliRunner().invoke(cli.app, ["predict", str(heads / name), str(tmp_path / "new.csv"), "--format", form])
        said = ended.stdout.replace("&#x27;", "'")
        assert ended.exit_code == 0 and "77777" not in said and all(doubt in said for doubt in doubts)
        for line, doubt in zip(said.splitlines(), doubts, strict=True) if form == "jsonl" else ():
            row = json.loads(line)
            assert (row["doubt"] or "")[: len(doubt) or None] == doubt and (row["answer"] is None) == bool(doubt)


@pytest.mark.parametrize(("header", "factor", "words"), [
    (HEADER, 1.0, "no better than chance"),
    (HEADER, 18.0, "column 'chol' holds a value far"),
    ("age,Chol,rare,smokes", 1.0, "column 'chol', which the head reads, is missing; did you mean 'Chol'"),
])  # fmt: skip
def test_adapt_doubts_a_table_as_well(heads: Path, tmp_path: Path, header: str, factor: float, words: str) -> None:
    cells = (f"{50 + row % 3},{factor * (5 + row % 2)},{row % 4},{row % 3 // 2}" for row in range(40))
    rows = (f"{('well', 'ill')[row % 2]},p{row},{cell}\n" for row, cell in enumerate(cells))
    (tmp_path / "new.csv").write_text(f"label,patient_id,{header}\n{''.join(rows)}")
    places = str(heads / "ridge"), "--data", str(tmp_path / "new.csv"), "--out", str(tmp_path / "own")
    ended = CliRunner().invoke(cli.app, ["adapt", *places, "--shots", "1"])
    assert words in f"{ended.output} {ended.exception}", ended.output


def test_a_head_of_before_doubts_what_is_empty_and_a_damaged_one_is_refused(heads: Path, tmp_path: Path) -> None:
    head = load_head(heads / "ridge")
    (tmp_path / "new.csv").write_text(f"{HEADER}\n,-999,,0\n50,-999,,0\n")
    weight = head.weight + 1e-12 * np.array([0, 1] * 4)  # what rounding leaves of a column that never was empty
    old = load(save_head(replace(head, weight=weight, facts={**head.facts, "usual": {}}), tmp_path, "old"))
    answers = old.answers([tmp_path / "new.csv"])
    assert [answer.doubt.partition(" is empty")[0] for answer in answers] == ["column 'age'", ""]
    for name, fact in {"low": [0.0], "high": ["a"] * 4, "always": None}.items():
        facts = {**head.facts, "usual": {**told(heads), name: fact}}
        with pytest.raises(WeightsError, match="damaged entry 'usual'"):
            load(save_head(replace(head, facts=facts), tmp_path, f"damaged-{name}"))
