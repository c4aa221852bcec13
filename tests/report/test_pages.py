"""The pages a person reads, in a real browser: nothing that axe-core calls serious, wide and narrow, and on paper."""

import base64
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from medtl_core.cli import app as cli
from medtl_core.privacy.policy import Policy
from tests.harness.browser import WIDTHS, narrow, opened, serious
from tests.hospital import made_hospital

pytestmark = pytest.mark.slow
RUN = Path(__file__).resolve().parents[1] / "export" / "quickstart"
#: Of a run that draws every part of a report.
WORDS = "sites=3 shots=20 features=plain image-size=64 bootstrap=50"
PARTS = ("operating-points=0.9", "subgroups=site", "keep-scores=true")


def medtl(*words: str) -> None:
    ended = CliRunner().invoke(cli.app, [*words])
    assert ended.exit_code == 0, ended.exception or ended.output


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    run, other, private = folder / "run", folder / "other", folder / "private"
    medtl("simulate", "quickstart", *WORDS.split(), *PARTS, "--out", str(run))
    terms = "privacy=auto epsilon=4 public-cases=10"
    medtl("simulate", "quickstart", *WORDS.split(), *terms.split(), "--out", str(private))
    shutil.copytree(RUN, other)
    medtl("report", str(other))
    medtl("report", str(shutil.copytree(run, folder / "shown")), "--maps", "8")
    medtl("report", str(run), "--hospital", "phantom-a")
    medtl("compare", str(run), str(private), "--out", str(folder / "compare.html"))
    made_hospital(folder / "north", "north", folder, policy=Policy(max_epsilon=4.0, delta=1e-5))
    medtl("site", "flow", str(folder / "north"), "--out", str(folder / "flow.html"))
    medtl("site", "flow", str(run), "--hospital", "phantom-a", "--out", str(folder / "flow-run.html"))
    medtl("ledger", "statement", str(folder / "north"), "--out", str(folder / "statement.html"))
    return {
        "report": run / "report.html", "examples": folder / "shown" / "report.html",
        "quickstart": other / "report.html", "private": private / "report.html",
        "hospital": run / "hospital-phantom-a.html", "compare": folder / "compare.html",
        "flow": folder / "flow.html", "flow of a run": folder / "flow-run.html",
        "statement": folder / "statement.html",
    }  # fmt: skip


@pytest.mark.timeout(600)
def test_no_page_has_what_axe_calls_serious_wide_or_narrow(pages: dict[str, Path]) -> None:
    found = dict[str, Any]()
    for name, page in pages.items():
        with opened(page.as_uri()) as browser:
            for width in WIDTHS:
                narrow(browser, width)
                for folded in browser.find_elements("css selector", "details"):
                    browser.execute_script("arguments[0].open = true", folded)
                if faults := serious(browser):
                    found[f"{name} at {width}"] = faults
                if browser.execute_script("return document.documentElement.scrollWidth") > width:
                    found[f"{name} at {width} is wider"] = browser.execute_script(
                        "return document.documentElement.scrollWidth"
                    )
    assert found == {}


def test_pages_to_print_have_few_sheets_of_paper(pages: dict[str, Path]) -> None:
    most = {
        "report": 6,
        "examples": 6,
        "quickstart": 6,
        "private": 6,
        "hospital": 2,
        "flow": 2,
        "flow of a run": 2,
        "statement": 1,
    }
    sheets = {name: len(re.findall(rb"/Type\s*/Page\b(?!s)", printed(pages[name]))) for name in most}
    assert all(1 <= sheets[name] <= most[name] for name in most), sheets


def printed(page: Path) -> bytes:
    with opened(page.as_uri()) as browser:
        options = {"preferCSSPageSize": True, "printBackground": True}
        return base64.b64decode(browser.execute_cdp_cmd("Page.printToPDF", options)["data"])
