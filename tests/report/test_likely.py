"""How often sets of likely classes hold the right one at each hospital, in a run's report and on a hospital's page."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from medtl_core.cli import app as cli
from medtl_core.cli.simulate import simulate
from medtl_core.config import settings
from medtl_core.flower.run import RunPlan
from tests.house import ROOT
from tests.report.reading import check_whole

RUN = Path(__file__).resolve().parents[1] / "export" / "quickstart"
LIKELY = {
    "north": {"level": 0.9, "cases": 10.0, "held": 8.0, "named": 26.0},
    "south": {"level": 0.9, "cases": 4.0, "held": 4.0, "named": 4.0},
    "west": {"level": 0.9, "cases": 0.0, "held": 0.0, "named": 0.0},
}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = Path(shutil.copytree(RUN, tmp_path / "run"))
    promise(folder, LIKELY)
    return folder


def promise(run: Path, likely: Any) -> None:
    place = run / "seed-0" / "clinical.json"
    record = json.loads(place.read_text())
    record["methods"]["auto"]["likely"] = likely
    place.write_text(json.dumps(record))


def report(run: Path, *words: str) -> Result:
    return CliRunner().invoke(cli.app, ["report", str(run), *words])


def rows(page: Path) -> list[list[str]]:
    """The table's rows, cell by cell; a remark stands behind a bar."""
    html = page.read_text()
    check_whole(html)
    _, found, rest = html.partition("<caption>Sets of likely classes at 90%: coverage and mean size</caption>")
    body = rest.partition("<tbody>")[2].partition("</tbody>")[0] if found else ""
    cells = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row) for row in body.split("</tr>") if "<td" in row]
    return [[cell.replace("<small>", "|").replace("</small>", "") for cell in row] for row in cells]


def test_coverage_and_size_stand_for_all_cases_and_each_hospital_that_has_some(run: Path) -> None:
    assert report(run).exit_code == 0
    assert rows(run / "report.html") == [
        ["all cases", "14", "0.857|0.601–0.960", "2.14"],  # noqa: RUF001
        ["north", "10", "0.800|0.490–0.943", "2.60"],  # noqa: RUF001
        ["south", "4", "4 of 4|too few for an interval", "1.00"],
    ]
    page = check_whole((run / "report.html").read_text())
    assert "a hospital's own share says whether the promise holds there" in page.text


def test_a_single_hospital_is_all_cases(run: Path) -> None:
    promise(run, {"north": LIKELY["north"]})
    assert report(run).exit_code == 0
    assert rows(run / "report.html") == [["all cases", "10", "0.800|0.490–0.943", "2.60"]]  # noqa: RUF001


@pytest.mark.parametrize("likely", [{}, {"west": LIKELY["west"]}, None])
def test_nothing_stands_without_sets_or_cases_or_in_a_run_from_before(run: Path, likely: Any) -> None:
    promise(run, likely)
    if likely is None:
        place = run / "seed-0" / "clinical.json"
        record = json.loads(place.read_text())
        del record["methods"]["auto"]["likely"]
        place.write_text(json.dumps(record))
    assert report(run).exit_code == 0
    assert rows(run / "report.html") == []


def test_a_record_that_is_damaged_is_refused(run: Path) -> None:
    promise(run, {"north": {"level": 0.9}})
    ended = report(run)
    assert ended.exit_code == 1 and "is not whole" in str(ended.exception)


@pytest.mark.parametrize("where", ["server", "sites"])
def test_a_run_tells_what_its_own_scores_say_on_both_roads_of_judging(tmp_path: Path, where: str) -> None:
    values = {"data": "phantom", "sites": 3, "shots": 16, "image-size": 32, "features": "4", "bootstrap": 1}
    chosen = settings({**values, "methods": "discriminant", "test": where, "keep-scores": where == "server"})
    simulate(RunPlan(chosen, 1, 1, False, tmp_path / "run", ROOT, "tiny"))
    seed = tmp_path / "run" / "seed-0"
    told = json.loads((seed / "clinical.json").read_text())["methods"]["discriminant"]["likely"]
    manifest = json.loads((seed / "heads" / "discriminant.json").read_text())
    floors, cases = manifest["facts"]["conformal"]["floors"], manifest["facts"]["conformal"]["cases"]
    assert sum(row["cases"] for row in told.values()) == sum(cases)
    assert 0.9 <= sum(row["held"] for row in told.values()) / sum(cases) < 1.0
    if where == "server":
        with np.load(seed / "scores.npz") as file:
            saved = dict(file)
        shares = np.exp(saved["logits discriminant"])
        shares = shares / shares.sum(axis=1, keepdims=True)
        inside = np.log(shares / (1 - shares)) >= np.array(floors) - 1e-9
        for site, row in told.items():
            here = saved["site"] == site
            assert row["held"] == inside[here, saved["label"][here]].sum() and row["named"] == inside[here].sum()
    site = next(iter(told))
    assert report(tmp_path / "run", "--hospital", site).exit_code == 0
    own = rows(tmp_path / "run" / f"hospital-{site}.html")
    assert [row[0] for row in own] == ["all cases", site] and own[1][1] == f"{told[site]['cases']:.0f}"
    assert not any(other in (tmp_path / "run" / f"hospital-{site}.html").read_text() for other in [*told][1:])
