"""The page in a real browser: drop a picture or a DICOM file, read probability, set and map; by keyboard; narrow."""

import base64
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.formats.dicom_made import dicom
from tests.harness.browser import narrow, opened, serious
from tests.predict.heads import film, made

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]
DROP = """
const [name, data] = arguments, bytes = Uint8Array.from(atob(data), (sign) => sign.charCodeAt(0));
const carried = new DataTransfer();
carried.items.add(new File([bytes], name));
document.getElementById("drop").dispatchEvent(new DragEvent("drop", {dataTransfer: carried, bubbles: true}));
"""
#: What of the answer stands out of its frame.
WITHIN = """
const edge = document.getElementById("result").getBoundingClientRect().right;
return [...document.querySelectorAll("#result *")].filter((one) => one.getBoundingClientRect().right > edge)
  .map((one) => one.tagName);
"""
OTHERS = "return performance.getEntriesByType('resource').map((one) => one.name)"


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where a service in a process of its own listens."""
    folder = tmp_path_factory.mktemp("head")
    made(folder, conformal={"level": 0.9, "floors": [-1e9, -1e9, None], "cases": [20, 20, 4]})
    words = [sys.executable, "-m", "medtl_core.cli.app", "serve", str(folder / "made"), "--port", "0"]
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stderr
        said = next(line for line in process.stderr if "http" in line)
        yield re.findall(r"http://\S+/", said)[0]
        process.terminate()


@pytest.fixture
def browser(address: str) -> Iterator[Any]:
    with opened(address) as driver:
        yield driver


def drop(browser: Any, name: str, path: Path) -> None:
    browser.execute_script(DROP, name, base64.b64encode(path.read_bytes()).decode())
    answered(browser)


def answered(browser: Any) -> None:
    from selenium.webdriver.support.ui import WebDriverWait

    WebDriverWait(browser, 60).until(lambda page: text(page, "#state").startswith(("Answered", "No answer")))


def text(browser: Any, place: str) -> str:
    return str(browser.find_element("css selector", place).text)


def test_a_dropped_picture_is_answered_with_probability_set_and_map(browser: Any, tmp_path: Path) -> None:
    assert serious(browser) == []
    drop(browser, "<b>film</b>.png", film(tmp_path).path)
    assert text(browser, "#title") == "Answer for <b>film</b>.png"
    shares = [float(cell.text) for cell in browser.find_elements("css selector", "td.number")]
    assert len(shares) == 3 and abs(sum(shares) - 1) < 0.01
    assert text(browser, ".said") in ("normal", "consolidation", "other")
    assert "other" in text(browser, ".likely")
    assert browser.execute_script("return document.getElementById('picture').naturalWidth") == 64
    assert browser.switch_to.active_element.get_attribute("id") == "title"
    assert serious(browser) == []
    narrow(browser, 390)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= 390
    assert browser.execute_script(WITHIN) == []
    assert serious(browser) == []
    assert all(name.startswith((browser.current_url, "data:")) for name in browser.execute_script(OTHERS))
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []
    if "SCREENSHOTS" in os.environ:
        for width in (1280, 390):
            narrow(browser, width)
            browser.save_screenshot(str(Path(os.environ["SCREENSHOTS"], f"serve-{width}.png")))


def test_a_dicom_file_by_keyboard_and_one_that_names_a_patient(browser: Any, tmp_path: Path) -> None:
    pixels = np.arange(64 * 64, dtype=np.uint8).reshape(64, 64)
    plain = dicom(tmp_path / "plain.dcm", pixels, BurnedInAnnotation="NO")
    browser.find_element("css selector", "body").send_keys("\ue004")  # tab
    assert browser.switch_to.active_element.get_attribute("id") == "file"
    browser.switch_to.active_element.send_keys(str(plain))
    answered(browser)
    assert len(browser.find_elements("css selector", "td.number")) == 3
    drop(browser, "named.dcm", dicom(tmp_path / "named.dcm", pixels, PatientName="Doe^Jane"))
    assert text(browser, ".said") == "No answer" and "Jane" not in text(browser, "body")
