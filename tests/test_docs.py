"""The documents are true: what they name exists, their links lead somewhere, and every method has measured results."""

import re
from pathlib import Path

import pytest

from medtl_core.federation.registry import all_methods
from tests.house import ROOT, this_house

PAGES = sorted([*(ROOT / "docs").glob("*.md"), ROOT / "README.md", ROOT / "SECURITY.md", ROOT / "CONTRIBUTING.md"])
PACKAGES = r"medtl_core|server|client|simulations|tests|docs"
ROOMS = r"data|backbones|features|heads|evaluation|privacy|federation|flower|methods|audit|report|sweep|recipes|cli"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_named_files_and_modules_exist(page: Path) -> None:
    text = re.sub(r"(`[^`\n]+`\n)?```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    paths = re.findall(rf"`((?:{PACKAGES})/[\w./-]*)`", text)
    assert [path for path in paths if not (ROOT / path).exists()] == []
    modules = {*this_house().modules, "tests.house", "tests.mutants", "tests.clinical.recompute"}
    for name in re.findall(rf"`(?:python -m )?((?:{PACKAGES}|{ROOMS})(?:\.\w+)+)", text):
        whole = name if re.match(PACKAGES, name) else f"medtl_core.{name}"
        assert {whole, whole.rpartition(".")[0]} & modules, f"{page.name} names {name}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_lead_to_files(page: Path) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text(encoding="utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_every_attack_of_the_threat_model_has_its_test() -> None:
    text = (ROOT / "docs" / "threat-model.md").read_text(encoding="utf-8")
    words, place, missing = re.findall(r"`(tests/[\w/]*\.py)?(?:::(\w+))?`", text), "", []
    for path, name in (word for word in words if any(word)):
        place = path or place
        source = ROOT / place
        if not source.is_file() or (name and f"def {name}(" not in source.read_text(encoding="utf-8")):
            missing.append(f"{place}::{name}")
    assert missing == []


def test_every_method_has_a_row_of_results_or_is_listed_as_having_none() -> None:
    pages = [
        page.read_text(encoding="utf-8").partition("\n## Retired")[0] for page in (ROOT / "docs").glob("results*.md")
    ]
    rows = "\n".join(line for page in pages for line in page.splitlines() if line.startswith("|"))
    (unmeasured,) = [part for page in pages for part in re.findall(r"\n## Not measured\n(.*?)\n## ", page, re.DOTALL)]
    measured, listed = ({family(name) for name in re.findall(r"`([^`]+)`", text)} for text in (rows, unmeasured))
    names = {family(name) for kind in all_methods() for name in kind.names()}
    assert names - measured - listed == set()
    assert listed & measured == set(), "it has a row now: take it from the list"


def family(name: str) -> str:
    """A method's name without its numbers."""
    return re.sub(r"[0-9]+", "N", name)


def test_no_comment_cites_a_note_that_is_not_in_the_repository() -> None:
    note = re.compile(r"\b(METHODS|LIBRARIES|SAFETY|FLOWER|STYLE)(, | section | )[A-Z]*\s*[0-9]|\(SAFETY\b")
    cited = {file.name: match[0] for file in this_house().modules.values() if (match := note.search(file.text))}
    assert cited == {}
