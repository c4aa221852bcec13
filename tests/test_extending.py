"""docs/extending.md, executed: what it shows, put into a copy of the app, is part of medtl like anything else."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.deployed import ROOT, copy_app

PAGE = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
#: A block of the page with the last path named before it.
BLOCKS = re.findall(
    r"`(medtl_core/[\w/]+\.(?:py|toml))`(?:(?!`medtl_core)(?!```).)*?```(python|diff)\n(.*?)```", PAGE, re.DOTALL
)


def changed(text: str, hunk: str) -> str:
    """A file's text after one hunk of a diff, whose context must stand in it exactly once."""
    lines = hunk.splitlines(keepends=True)
    before = "".join(line[1:] for line in lines if line[0] in " -")
    after = "".join(line[1:] for line in lines if line[0] in " +")
    assert text.count(before) == 1, f"docs/extending.md shows lines that are not in the code:\n{before}"
    return text.replace(before, after)


def pictures(folder: Path) -> None:
    """Three kinds of stripes, 20 patients each with one small PNG, and their labels.json."""
    from PIL import Image

    folder.mkdir()
    dice, rows = np.random.default_rng(0), {}
    for number in range(60):
        wave = np.sin(np.arange(32) * (0.3, 0.9, 2.0)[number % 3])[None, :, None]
        pixels = 128 + 80 * wave + dice.normal(0, 10, (32, 32, 3))
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / f"{number}.png")
        rows[f"{number}.png"] = {"label": ("a", "b", "c")[number % 3], "patient": f"p{number}"}
    (folder / "labels.json").write_text(json.dumps(rows), encoding="utf-8")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The page's command in a copy of medtl with everything the page adds."""
    folder = tmp_path_factory.mktemp("extended")
    app = copy_app(folder)
    for path, kind, text in BLOCKS:
        place = app / path
        if kind == "diff":
            before = place.read_text(encoding="utf-8")
            for hunk in text.split("@@\n"):
                before = changed(before, hunk)
            text = before
        else:
            assert not place.exists(), f"{path} exists already"
        place.write_text(text, encoding="utf-8")
    pictures(folder / "cases")
    (command,) = re.findall(r"^medtl simulate (.*)$", PAGE, re.MULTILINE)
    words = [*command.replace("CASES", str(folder / "cases")).split(), "image-size=32", "folds=2", "--json"]
    done = subprocess.run(
        [sys.executable, "-c", "from medtl_core.cli.app import main; main()", "simulate", *words, "--app", "."],
        cwd=app, env={**os.environ, "PYTHONPATH": "."}, capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    (record,) = app.glob("runs/**/result.json")
    return {"summary": json.loads(done.stdout), "result": json.loads(record.read_text(encoding="utf-8"))}


@pytest.mark.slow
def test_one_new_file_of_at_most_40_lines_is_a_new_method(run: dict[str, Any]) -> None:
    (code,) = [text for path, kind, text in BLOCKS if "/methods/" in path and kind == "python"]
    assert len(code.splitlines()) <= 40
    methods = run["summary"]["methods"]
    assert set(methods) == {"projected-32", "nearest-mean"}
    assert methods["projected-32"]["balanced_accuracy"]["mean"] > 0.4  # chance is a third
    assert methods["projected-32"]["rounds"] == 2


@pytest.mark.slow
def test_a_new_reader_finds_the_cases(run: dict[str, Any]) -> None:
    result = run["result"]
    assert (result["classes"], result["test"]["cases"], result["data"]["title"]) == (
        ["a", "b", "c"],
        15,
        "own data: cases",
    )


@pytest.mark.slow
def test_a_new_backbone_can_be_named(run: dict[str, Any]) -> None:
    assert run["result"]["settings"]["backbone"] == "random:squeezenet1_0"


@pytest.mark.slow
def test_a_new_metric_is_judged_with_the_others(run: dict[str, Any]) -> None:
    assert 0.0 < run["result"]["methods"]["projected-32"]["figures"]["kappa"] <= 1.0  # by chance it is 0
