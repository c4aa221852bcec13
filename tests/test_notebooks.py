"""The notebooks run from top to bottom as they are committed: without outputs, and without a place of any machine."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.house import ROOT

NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))
#: What each must have shown, in its outputs.
SHOWN = {
    "1-first-federation": ("3 hospitals, 182 test cases", "statistics", "likely: "),
    "2-privacy-budget": ("it would be refused", "4 left", "private  balanced accuracy 0."),
    "3-own-data": ("no fault found", "byte-equal images in 'train' and 'test'", "no answer: not an image"),
}


def read(notebook: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(notebook.read_text(encoding="utf-8"))
    return content


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_committed_without_outputs_and_its_links_lead_somewhere(notebook: Path) -> None:
    cells = read(notebook)["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)
    text = "\n".join("".join(cell["source"]) for cell in cells)
    assert "/tmp" not in text and "/home" not in text and "://" not in text
    links = [part.partition(")")[0] for part in text.split("](")[1:]]
    assert [link for link in links if not (notebook.parent / link).exists()] == []


def test_there_is_one_of_each_kind() -> None:
    assert [notebook.stem for notebook in NOTEBOOKS] == [*SHOWN]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_from_top_to_bottom(notebook: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nbformat = pytest.importorskip("nbformat", reason="nbclient and ipykernel are not installed")
    client = pytest.importorskip("nbclient", reason="nbclient is not installed")
    pytest.importorskip("ipykernel", reason="ipykernel is not installed")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]))
    ran = nbformat.read(notebook, as_version=4)
    client.NotebookClient(ran, timeout=240, kernel_name="python3").execute()
    shown = "".join(one.get("text", "") for cell in ran.cells for one in cell.get("outputs", ()))
    assert [words for words in SHOWN[notebook.stem] if words not in shown] == []
