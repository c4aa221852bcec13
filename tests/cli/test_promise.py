"""The first words of a private run's summary and report: the promise, and what the ledgers say of it."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Call
from tests.privacy.made import write_table


def words_of(page: Path) -> str:
    """What a reader sees, in order."""
    body = page.read_text(encoding="utf-8").partition("<body>")[2]
    return " ".join(re.sub(r"<[^>]+>", " ", body).split())


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("promise")
    write_table(folder / "table.csv", 3, 24)
    return folder / "table.csv"


def simulated(call: Call, table: Path, out: Path, *words: str) -> tuple[str, str, Any]:
    more = ("--set", "backbone=table", "sites=3", "shots=24", "bootstrap=20", *words)
    code, shown = call("simulate", "--quiet", "--data", table, "--out", out, *more)
    assert code == 0, shown
    return shown, words_of(out / "report.html"), json.loads((out / "metrics.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("secure", [False, True])
def test_a_private_run_opens_with_its_promise(call: Call, table: Path, tmp_path: Path, secure: bool) -> None:
    words = ("privacy=auto", "epsilon=2", "public-cases=20", f"secure-sum={str(secure).lower()}")
    shown, page, stored = simulated(call, table, tmp_path / "run", *words)
    summing = "at most 1 of 3 may collude" if secure else "every hospital adds the whole noise"
    for text in (" ".join(shown.split()), page, " ".join(stored["promise"])):
        places = [
            text.index(said)
            for said in (
                "promised epsilon 2 at delta 1e-05", "at most 7.39 times", "Mechanism: private-auto", summing,
                "Ledgers: at most epsilon 2 of 2 was spent by any hospital (3 ledgers read)", "at least 20 patients",
            )
        ]  # fmt: skip
        assert places == sorted(places)
    assert shown.startswith("Private: ")
    assert page.index("Private: ") < page.index("reached a balanced accuracy")
    settings = page.partition("Setting Value")[2].partition("Versions")[0]
    assert " delta 1e-05 " in settings and " methods private-auto " in settings and str(tmp_path) not in settings
    again = call("report", tmp_path / "run")[1]
    assert again.startswith("Private: ") and "3 ledgers read" in " ".join(again.split())


def test_a_damaged_ledger_is_no_promise_kept(call: Call, table: Path, tmp_path: Path) -> None:
    simulated(call, table, tmp_path / "run", "privacy=mean", "epsilon=2", "public-cases=20")
    book = next((tmp_path / "run").rglob("ledger.jsonl"))
    book.write_bytes(book.read_bytes().replace(b"reserve", b"reverse"))
    code, shown = call("report", tmp_path / "run")
    assert code == 1 and "was changed at line" in shown


def test_without_privacy_no_promise_is_made_and_no_word_of_one_shown(call: Call, table: Path, tmp_path: Path) -> None:
    shown, page, stored = simulated(call, table, tmp_path / "run", "methods=ridge,local")
    assert "Private" not in shown + page and "promise" not in stored
    settings = page.partition("Setting Value")[2].partition("Versions")[0]
    assert " methods ridge,local " in settings
    for word in ("epsilon", "delta", "secure-sum", "colluders", "public-cases"):
        assert f" {word} " not in settings


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("epsilon=4",), "epsilon has no effect with privacy=none"),
        (("methods=ridge", "secure-sum=true"), "secure-sum has no effect with privacy=none"),
        (("methods=ridge,auto", "privacy=auto", "public-cases=20"), "methods names ridge, which is not private"),
    ],
)
def test_words_that_would_be_ignored_are_refused(
    call: Call, table: Path, tmp_path: Path, words: tuple[str, ...], why: str
) -> None:
    code, shown = call("simulate", "--data", table, "--out", tmp_path / "run", "--set", "backbone=table", *words)
    assert code == 1 and why in shown
    assert not (tmp_path / "run").exists()
