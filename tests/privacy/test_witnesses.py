"""What a server remembers of ledgers: it survives, only goes forward, and takes nothing that is not of its form."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from medtl_core.errors import PrivacyError
from medtl_core.privacy.witnesses import FILE, HOSPITAL, METHOD, Witnesses, as_values, from_values
from medtl_core.values import Witness

RUN, MEAN = "a" * 64, "private-mean"


def shown(seq: int, ledger: str = HOSPITAL, word: str = "0") -> Witness:
    return Witness(ledger, seq, word * 64)


def test_a_hospital_has_one_ledger_over_runs_and_methods_and_a_simulation_one_for_each(tmp_path: Path) -> None:
    first = Witnesses(tmp_path / "state", RUN)
    assert first.of("north", MEAN) is None
    assert first.follows("north", MEAN, shown(4))
    assert first.follows("south", MEAN, shown(2, METHOD))
    first.save()
    again, other = (Witnesses(tmp_path / "state", run) for run in (RUN, "b" * 64))
    assert again.of("north", MEAN) == other.of("north", "private-auto") == shown(4)
    assert again.of("south", MEAN) == shown(2, METHOD)
    assert again.of("south", "private-auto") is other.of("south", MEAN) is None
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {path.stat().st_mode & 0o777 for path in files} == {0o600}


def test_a_ledger_never_goes_back_nor_sideways() -> None:
    found = Witnesses(None, RUN)  # without a folder it lasts as long as the server
    assert found.follows("north", MEAN, shown(4))
    assert found.follows("north", MEAN, shown(4))  # a reply sent again
    for other in (shown(3), shown(1), shown(4, word="f")):
        assert not found.follows("north", MEAN, other)
        found.save()
        assert found.of("north", MEAN) == shown(4)
    assert found.follows("north", MEAN, shown(5, word="f"))


def test_two_servers_keep_the_later_record(tmp_path: Path) -> None:
    early, late = Witnesses(tmp_path, RUN), Witnesses(tmp_path, RUN)
    late.follows("north", MEAN, shown(9))
    late.save()
    early.follows("north", MEAN, shown(4))
    early.follows("south", MEAN, shown(2))
    early.save()
    assert early.of("north", MEAN) == shown(9)
    assert Witnesses(tmp_path, RUN).of("south", MEAN) == shown(2)


def test_many_servers_at_once_lose_nothing(tmp_path: Path) -> None:
    def serve(number: int) -> None:
        mine = Witnesses(tmp_path, RUN)
        mine.follows(f"h{number}", MEAN, shown(number + 1))
        mine.save()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(serve, range(24)))
    found = Witnesses(tmp_path, RUN)
    assert [found.of(f"h{number}", MEAN) for number in range(24)] == [shown(n + 1) for n in range(24)]


@pytest.mark.parametrize("text", ["", "[]", "{", '{"north": 3}', '{"north": {"witness-seq": 3}}'])
def test_a_damaged_file_is_not_taken_for_an_empty_one(tmp_path: Path, text: str) -> None:
    (tmp_path / FILE).write_text(text)
    for folder in (tmp_path, tmp_path / FILE):  # nor is a folder that cannot be written
        with pytest.raises(PrivacyError):
            Witnesses(folder, RUN)
    assert (tmp_path / FILE).read_text() == text


def test_the_form_is_the_same_both_ways() -> None:
    for witness in (shown(1), shown(2**52, METHOD, "9")):
        assert from_values({**json.loads(json.dumps(as_values(witness))), "method": "x"}) == witness
    assert from_values({"method": "x"}) is None


@pytest.mark.parametrize(
    "values",
    [
        {"witness-seq": 0}, {"witness-seq": -1}, {"witness-seq": 2**60}, {"witness-seq": True}, {"witness-seq": 1.0},
        {"witness-seq": "1"}, {"witness-hash": "0" * 63}, {"witness-hash": "G" * 64}, {"witness-hash": "0" * 64 + "\n"},
        {"witness-hash": 7}, {"witness-ledger": "everyone"}, {"witness-ledger": None}, {"witness-seq": None},
        {"witness-hash": None},
    ],
)  # fmt: skip
def test_what_is_not_of_its_form_is_refused(values: dict) -> None:
    with pytest.raises(PrivacyError):
        from_values({**as_values(shown(3)), **values})
