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
from medtl_core.privacy.ledger_report import PRIVATE_OUTBOUND
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


@pytest.mark.parametrize(("epsilon", "reason"), [("3", "less"), ("9", " ")])
def test_a_budget_is_never_lowered_nor_raised_without_a_reason(tmp_path: Path, epsilon: str, reason: str) -> None:
    with ledger(tmp_path) as book:
        before = book.budget
    words = ["ledger", "raise", str(tmp_path / "privacy"), "--epsilon", epsilon, "--reason", reason]
    assert isinstance(RUN.invoke(app, words).exception, PrivacyError)
    with ledger(tmp_path) as book:
        assert book.budget == before == 4.0


def test_the_list_of_what_leaves_is_complete() -> None:
    told = {row.task for row in PRIVATE_OUTBOUND} - {"every reply"}
    assert told == {*all_private_tasks(), *STAGES}
    shown = RUN.invoke(app, ["site", "outbound"]).output
    assert all(name in shown for name in told)
    assert "rows [k]," in shown  # a shape in brackets is no mark-up
