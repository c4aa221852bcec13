"""A name belongs to an identity key: from the first time on, whoever else claims it, and without it to nobody twice."""

import json
from pathlib import Path

import pytest
from flwr.app import ConfigRecord, RecordDict

from medtl_core.errors import PrivacyError
from medtl_core.privacy.identity import public_identity
from medtl_core.privacy.witnesses import KEYS, Witnesses
from tests.flower.conftest import AGREED

RUN = "a" * 64


@pytest.fixture
def keys(tmp_path: Path) -> dict[str, Path]:
    """Folders with an identity key each."""
    homes = {name: tmp_path / name for name in ("north", "south", "impostor")}
    for home in homes.values():
        public_identity(home)
    return homes


def named(*names: str) -> dict:
    return {"name": names.__getitem__}


def told(hospitals) -> list[tuple[str, str]]:
    return sorted((failure.site, failure.code) for failure in hospitals.failures)


def test_a_name_is_bound_at_first_use_and_an_impostor_of_an_absent_hospital_is_refused(
    ward, toy, keys: dict[str, Path], tmp_path: Path
) -> None:
    state = tmp_path / "state"
    both = toy(**named("north", "south"), homes={0: keys["north"], 1: keys["south"]})
    assert told(ward(both, 2, witnesses=Witnesses(state, RUN)).hospitals) == []
    bound = json.loads((state / KEYS).read_text(encoding="utf-8"))
    assert bound == {name: public_identity(keys[name]) for name in ("north", "south")}
    for homes in ({0: keys["impostor"], 1: keys["south"]}, {1: keys["south"]}):  # another key, and none
        hospitals = ward(toy(**named("north", "south"), homes=homes), 2, witnesses=Witnesses(state, RUN)).hospitals
        assert (list(hospitals.weights), told(hospitals)) == (["south"], [("north", "identity")])
    hospitals = ward(both, 2, witnesses=Witnesses(state, "b" * 64)).hospitals  # another run: the true one is welcome
    assert (list(hospitals.weights), told(hospitals)) == (["north", "south"], [])
    assert json.loads((state / KEYS).read_text(encoding="utf-8")) == bound


@pytest.mark.parametrize("impostor", [True, False], ids=["another key", "no key"])
def test_beside_an_impostor_the_bound_hospital_takes_part(
    ward, toy, ask, keys: dict[str, Path], impostor: bool
) -> None:
    memory = Witnesses(None, RUN)
    memory.bind("north", public_identity(keys["north"]))
    homes = {0: keys["impostor"]} if impostor else {}
    twins = toy(**named("north", "north", "south"), homes={**homes, 1: keys["north"]})
    hospitals = ward(twins, 3, witnesses=memory).hospitals
    assert dict(hospitals.weights) == {"north": 11, "south": 12}
    assert [(failure.site, failure.code) for failure in hospitals.failures] == [("north", "identity")]
    assert "node 1000" in hospitals.failures[0].text
    assert [reply.site for reply in hospitals.ask(ask())] == ["north", "south"]
    assert sorted(part for part, _ in twins.asked) == [1, 2]


@pytest.mark.parametrize("bound", [True, False])
def test_what_nothing_tells_apart_is_refused_to_both(ward, toy, keys: dict[str, Path], bound: bool) -> None:
    memory = Witnesses(None, RUN)
    homes = {0: keys["north"], 1: keys["impostor"], 2: keys["south"]}
    if bound:  # one hospital that connects twice
        memory.bind("north", public_identity(keys["north"]))
        homes[1] = keys["north"]
    hospitals = ward(toy(**named("north", "north", "south"), homes=homes), 3, quorum=0.3, witnesses=memory).hospitals
    assert (list(hospitals.weights), told(hospitals)) == (["south"], [("north", "duplicate-site")] * 2)
    assert memory.key_of("north") == (public_identity(keys["north"]) if bound else None)
    assert memory.key_of("south") == public_identity(keys["south"])


@pytest.mark.parametrize(
    "changes",
    [
        {"site": "south"}, {"identity-signature": "00" * 64}, {"identity-signature": 7}, {"identity": "00" * 32},
        {"identity": ["a", "b"]},
    ],
)  # fmt: skip
def test_a_signature_is_good_for_its_own_key_name_run_and_node_only(
    ward, toy, keys: dict[str, Path], changes: dict
) -> None:
    def twist(part: int, content: RecordDict) -> RecordDict:
        if part == 0:
            return RecordDict({**content, "about": ConfigRecord({**content["about"], **changes})})
        return content

    hospitals = ward(toy(homes={0: keys["north"]}, join_twist=twist)).hospitals
    assert told(hospitals) == [("node 1000", "identity")]


def test_a_signature_that_was_overheard_is_of_no_use_to_another_node(ward, toy, keys: dict[str, Path]) -> None:
    heard: dict[str, str] = {}

    def repeat(part: int, content: RecordDict) -> RecordDict:
        about = content["about"]
        if part == 0:
            heard.update({key: about[key] for key in ("identity", "identity-signature")})
        return content if part == 0 else RecordDict({**content, "about": ConfigRecord({**about, **heard})})

    hospitals = ward(toy(**named("north", "north"), homes={0: keys["north"]}, join_twist=repeat), 2).hospitals
    assert (list(hospitals.weights), told(hospitals)) == (["north"], [("node 1001", "identity")])


def test_a_hospital_s_ledger_is_believed_only_of_who_signed(ward, toy, ask, keys: dict[str, Path]) -> None:
    shown = {"witness-ledger": "hospital", "witness-seq": 2**52, "witness-hash": "0" * 64}

    def twist(part: int, content: RecordDict) -> RecordDict:
        return RecordDict({**content, "about": ConfigRecord({**content["about"], **shown})})

    memory = Witnesses(None, AGREED)
    hospitals = ward(toy(homes={0: keys["north"]}, twist=twist), 2, witnesses=memory).hospitals
    assert [reply.site for reply in hospitals.ask(ask(ledger="private-mean"))] == ["h000"]
    assert told(hospitals) == [("h001", "identity")]
    assert memory.of("h001", "private-mean") is None


@pytest.mark.parametrize("text", ["", "[]", "{", '{"north": 3}'])
def test_a_damaged_file_of_keys_ends_the_run_before_anything_is_asked(tmp_path: Path, text: str) -> None:
    (tmp_path / KEYS).write_text(text, encoding="utf-8")
    with pytest.raises(PrivacyError, match=KEYS):
        Witnesses(tmp_path, RUN)
    assert (tmp_path / KEYS).read_text(encoding="utf-8") == text
