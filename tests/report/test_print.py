"""The report on paper, by a real browser."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from medtl_core.cli.simulate import simulate
from medtl_core.config import read_scenario, settings
from medtl_core.flower.run import RunPlan

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_quickstart_prints_on_six_pages_at_most(tmp_path: Path) -> None:
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no Chromium here")
    chosen = settings(read_scenario(ROOT / "simulations" / "scenarios" / "quickstart.toml"))
    chosen = chosen.replace(operating_points=0.9, subgroups="site")
    simulate(RunPlan(chosen, 1, 2, False, tmp_path / "run", ROOT, "quickstart"))
    flags = ("--headless", "--no-sandbox", "--disable-gpu", "--no-pdf-header-footer")
    page, paper = tmp_path / "run" / "report.html", tmp_path / "report.pdf"
    command = [browser, *flags, f"--user-data-dir={tmp_path}", f"--print-to-pdf={paper}", f"file://{page}"]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    assert 1 <= len(re.findall(rb"/Type\s*/Page\b(?!s)", paper.read_bytes())) <= 6
