"""What the hospital's own commands show of its ledgers, and that nothing else than the list leaves under privacy."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from medtl_core.cli.app import app
from medtl_core.errors import PrivacyError
from medtl_core.federation.registry import all_private_tasks, all_private_training
from medtl_core.federation.secure_sum import STAGES
from medtl_core.privacy.identity import public_identity
from medtl_core.privacy.ledger_report import PRIVATE_OUTBOUND, balance, ledgers, raise_budget
from tests.privacy.made import key, ledger, plan

RUN = CliRunner()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    with ledger(tmp_path) as book:
        book.reserve(key(1), plan(), plan().steps[0])
        book.release(key(1), b"payload")
    return tmp_path


def test_the_balance_counts_and_names(home: Path) -> None:
    (place,) = ledgers(home)
    found = balance(place)
    assert (found.site, found.reserved, found.released, found.budget) == ("north", 1, 1, 4.0)
    assert 0 < found.spent < 4
    shown = RUN.invoke(app, ["ledger", "show", str(home)])
    assert shown.exit_code == 0
    assert "north" in shown.output
    assert f"{found.spent:.4g}" in shown.output


def test_verify_tells_damage(home: Path) -> None:
    assert "whole: privacy: 4 records" in RUN.invoke(app, ["ledger", "verify", str(home)]).output
    path = home / "privacy" / "ledger.jsonl"
    path.write_bytes(path.read_bytes().replace(b"north", b"south"))
    assert isinstance(RUN.invoke(app, ["ledger", "verify", str(home)]).exception, PrivacyError)


def test_a_person_raises_the_budget_with_a_reason(home: Path) -> None:
    place = home / "privacy"
    done = RUN.invoke(app, ["ledger", "raise", str(place), "--epsilon", "6", "--reason", "board"])
    assert done.exit_code == 0
    assert "of 6 spent" in done.output
    assert balance(place).records[-1] == {"kind": "raise", "epsilon": 6.0, "reason": "board"}
    with pytest.raises(PrivacyError, match="exceed"):
        raise_budget(place, 5.0, "less")


def test_no_ledger_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(PrivacyError, match="no ledger"):
        list(ledgers(tmp_path))


def test_a_hospital_is_told_the_public_key_that_others_should_trust(tmp_path: Path) -> None:
    first, again = (RUN.invoke(app, ["site", "identity", str(tmp_path / "state")]) for _ in range(2))
    assert first.exit_code == 0
    assert first.output.strip() == again.output.strip() == public_identity(tmp_path / "state")
    assert len(bytes.fromhex(first.output.strip())) == 32


def test_the_list_of_what_leaves_is_complete() -> None:
    told = {row.task for row in PRIVATE_OUTBOUND} - {"every reply"}
    assert told == {*all_private_tasks(), *all_private_training(), *STAGES}
    shown = RUN.invoke(app, ["site", "outbound"]).output
    assert all(name in shown for name in told)
    assert "rows [k]," in shown  # a shape in brackets is no mark-up
