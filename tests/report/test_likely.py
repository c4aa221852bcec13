"""How often sets of likely classes hold the right one at each hospital, in `medtl report`, from a run's own scores."""

import json
import math
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from medtl_core.cli import app as cli
from medtl_core.predict.conformal import Conformal
from tests.report.reading import check_whole

RUN = Path(__file__).resolve().parents[1] / "export" / "quickstart"
#: Likely from a probability of a half, of a tenth, and always.
FLOORS = {"level": 0.9, "floors": [0.0, math.log(1 / 9), None], "cases": [10, 10, 4]}
#: Ten cases of the first class at north, of which two look like the third; four of the third at south.
SHARES = np.array([[0.6, 0.3, 0.1]] * 8 + [[0.3, 0.05, 0.65]] * 6)
LABEL, SITE = np.array([0] * 10 + [2] * 4), np.array(["north"] * 10 + ["south"] * 4)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = Path(shutil.copytree(RUN, tmp_path / "run"))
    promise(folder, FLOORS)
    keep(folder, SITE)
    return folder


def promise(run: Path, facts: dict[str, Any]) -> None:
    place = run / "seed-0" / "heads" / "auto.json"
    manifest = json.loads(place.read_text())
    manifest["facts"]["conformal"] = facts
    place.write_text(json.dumps(manifest))


def keep(run: Path, site: Any, method: str = "auto", classes: int = 3) -> None:
    logits = {f"logits {method}": np.log(SHARES)[:, :classes]}
    np.savez(run / "seed-0" / "scores.npz", label=LABEL, site=site, patient=np.arange(14), **logits)


def report(run: Path) -> Result:
    return CliRunner().invoke(cli.app, ["report", str(run)])


def rows(run: Path) -> list[list[str]]:
    """The table's rows, cell by cell; a remark stands behind a bar."""
    ended = report(run)
    assert ended.exit_code == 0, ended.exception
    html = (run / "report.html").read_text()
    check_whole(html)
    _, found, rest = html.partition("<caption>Sets of likely classes at 90%: coverage and mean size</caption>")
    body = rest.partition("<tbody>")[2].partition("</tbody>")[0] if found else ""
    cells = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row) for row in body.split("</tr>") if "<td" in row]
    return [[cell.replace("<small>", "|").replace("</small>", "") for cell in row] for row in cells]


def test_coverage_and_size_stand_for_all_cases_and_each_hospital(run: Path) -> None:
    assert rows(run) == [
        ["all cases", "14", "0.857|0.601–0.960", "2.14"],  # noqa: RUF001
        ["north", "10", "0.800|0.490–0.943", "2.60"],  # noqa: RUF001
        ["south", "4", "4 of 4|too few for an interval", "1.00"],
    ]
    page = check_whole((run / "report.html").read_text())
    assert "a hospital's own share says whether the promise holds there" in page.text
    inside = Conformal.of_facts(FLOORS, 3).inside(np.log(SHARES))  # type: ignore[union-attr]
    assert (inside.sum(), inside[np.arange(14), LABEL].sum()) == (30, 12)  # the sets that `medtl predict` names


def test_a_single_hospital_is_all_cases(run: Path) -> None:
    keep(run, np.array(["north"] * 14))
    assert rows(run) == [["all cases", "14", "0.857|0.601–0.960", "2.14"]]  # noqa: RUF001


def test_nothing_stands_without_sets_or_scores(run: Path) -> None:
    promise(run, {})
    assert rows(run) == []
    promise(run, FLOORS)
    keep(run, SITE, "ridge")
    assert rows(run) == []
    (run / "seed-0" / "scores.npz").unlink()
    assert rows(run) == []


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"level": 0.9, "floors": [0.0, 0.0], "cases": [10, 10]}, "auto was scored for other classes than its head"),
        ({"level": 0.9, "floors": ["high", 0.0, 0.0]}, "the floors of auto's likely classes are damaged"),
        ({"level": 0.9}, "the floors of auto's likely classes are damaged"),
    ],
)
def test_floors_that_are_none_of_these_classes_are_refused(run: Path, facts: dict[str, Any], words: str) -> None:
    promise(run, facts)
    ended = report(run)
    assert ended.exit_code == 1 and words in str(ended.exception)


def test_scores_that_a_disk_has_lost_are_refused(run: Path) -> None:
    place = run / "seed-0" / "scores.npz"
    place.write_bytes(place.read_bytes()[:200])
    ended = report(run)
    assert ended.exit_code == 1 and "scores.npz cannot be read" in str(ended.exception)
