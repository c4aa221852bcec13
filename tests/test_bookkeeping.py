"""A damaged or missing ledger is told by the hospital's commands, and nothing but the list leaves under privacy.

What the commands show of whole ledgers is in tests/samples.
"""

from pathlib import Path

import pytest
from click.testing import CliRunner

from medtl_core.cli.app import app
from medtl_core.errors import PrivacyError
from medtl_core.federation.registry import all_private_tasks
from medtl_core.federation.secure_sum import STAGES
from medtl_core.privacy.outbound import PRIVATE_OUTBOUND
from tests.hospital import made_hospital
from tests.privacy.made import key, ledger, plan

RUN = CliRunner()


def test_verify_tells_damage_and_that_there_is_no_ledger(tmp_path: Path) -> None:
    with ledger(tmp_path) as book:
        book.reserve(key(1), plan(), plan().steps[0])
    path = tmp_path / "privacy" / "ledger.jsonl"
    path.write_bytes(path.read_bytes().replace(b"north", b"south"))
    (tmp_path / "empty").mkdir()
    for folder in (tmp_path, tmp_path / "empty"):
        assert isinstance(RUN.invoke(app, ["ledger", "verify", str(folder)]).exception, PrivacyError)


def said(*words: object) -> str:
    done = RUN.invoke(app, [str(word) for word in words])
    if done.exception:
        raise done.exception
    return done.output


def test_the_commands_take_a_hospitals_folder_and_reading_changes_nothing(tmp_path: Path) -> None:
    home = tmp_path / "clinic"
    made_hospital(home, "north", tmp_path)
    (home / "ledger.jsonl").touch()  # an older medtl left it there when it was asked to raise
    for words in ("north: epsilon 0 of 4 spent", "north: epsilon 1.827 of 4 spent"):
        before = {path: path.read_bytes() for path in home.rglob("*") if path.is_file()}
        for place in (home, home / "privacy"):
            assert said("ledger", "show", place).startswith(words)
        assert said("ledger", "verify", home).startswith("whole: privacy")
        assert {path: path.read_bytes() for path in home.rglob("*") if path.is_file()} == before
        with ledger(home) as book:
            book.reserve(key(1), plan(), plan().steps[0])
    for folder, budget in ((home, 6), (home / "privacy", 7)):
        raised = said("ledger", "raise", folder, "--epsilon", budget, "--reason", "ethics board").split()
        assert raised[2:] == ["of", str(budget), "spent"]


def test_no_command_makes_what_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for folder in (tmp_path / "empty", tmp_path / "misspelt"):
        for words in (
            ["ledger", "show"],
            ["ledger", "verify"],
            ["ledger", "raise", "--epsilon", "6", "--reason", "board"],
        ):
            with pytest.raises(PrivacyError, match="no ledger"):
                said(*words, folder)
    with pytest.raises(PrivacyError, match="no identity key"):
        said("site", "identity", tmp_path / "misspelt")
    assert [path.name for path in tmp_path.rglob("*")] == ["empty"]


def test_a_raise_names_one_hospital(tmp_path: Path) -> None:
    for name in ("north", "south"):
        with ledger(tmp_path / name):
            pass
    with pytest.raises(PrivacyError, match="2 ledgers"):
        said("ledger", "raise", tmp_path, "--epsilon", "6", "--reason", "board")


@pytest.mark.parametrize(("epsilon", "reason"), [("3", "less"), ("9", " ")])
def test_a_budget_is_never_lowered_nor_raised_without_a_reason(tmp_path: Path, epsilon: str, reason: str) -> None:
    with ledger(tmp_path) as book:
        before = book.budget
    words = ["ledger", "raise", str(tmp_path / "privacy"), "--epsilon", epsilon, "--reason", reason]
    assert isinstance(RUN.invoke(app, words).exception, PrivacyError)
    with ledger(tmp_path) as book:
        assert book.budget == before == 4.0


def test_the_list_of_what_leaves_is_complete() -> None:
    told = {row.task for row in PRIVATE_OUTBOUND} - {"every reply", "join"}
    assert told == {*all_private_tasks(), *STAGES}
    shown = RUN.invoke(app, ["site", "outbound"]).output
    assert all(name in shown for name in told)
    assert "rows [k]," in shown  # a shape in brackets is no mark-up
