"""A hospital's personal state: what survives, what is refused, and what a full disk leaves; files: test_store."""

import errno
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from medtl_core import store
from medtl_core.errors import ConfigError, StateError
from medtl_core.methods.personal.state import KeptState, PersonalState, StateKey

WHO = StateKey("fedper-5", ("no", "yes"), "features", "a" * 64)


def arrays(value: float) -> dict[str, np.ndarray]:
    return {"head": np.full((2, 3), value, np.float32), "bias": np.full(2, float(value))}


@pytest.fixture
def state(tmp_path: Path) -> PersonalState:
    return PersonalState(tmp_path / "state" / "hospital", WHO)


def written(state: PersonalState, *rounds: int) -> PersonalState:
    for number in rounds:
        state.write(number, arrays(number))
    return state


def round_before(state: PersonalState, number: int) -> int | None:
    """The round whose arrays a request for round `number` starts from."""
    kept = state.before(number)
    if kept is None:
        return None
    assert kept.arrays["bias"].tolist() == [kept.round] * 2
    return kept.round


def files(state: PersonalState) -> set[str]:
    return {path.name for path in state.folder.iterdir()}


@pytest.mark.parametrize(
    ("rounds", "asked", "start"),
    [
        ((), 1, None),
        ((1, 2, 3), 4, 3),
        ((1, 2), 2, 1),  # a repeated request reads the same arrays again
        ((1,), 5, 1),  # a hospital that missed rounds goes on from its newest
        ((1, 5), 5, 1),
        ((), 3, None),  # a hospital that joins late finds nothing, even when asked twice
        ((3,), 3, None),
        ((4,), 1, None),  # round one begins anew
    ],
)
def test_a_round_reads_what_the_round_before_left(
    state: PersonalState, rounds: tuple[int, ...], asked: int, start: int | None
) -> None:
    written(state, *rounds)
    for _ in range(2):
        assert round_before(state, asked) == start
        state.write(asked, arrays(asked))


def test_two_rounds_are_kept_for_the_owner_alone_and_round_one_begins_anew(state: PersonalState) -> None:
    written(state, 1, 2, 3)
    assert files(state) == {f"fedper-5.round-{n}.{suffix}" for n in (2, 3) for suffix in ("json", "safetensors")}
    assert {path.stat().st_mode & 0o777 for path in state.folder.iterdir()} == {0o600}
    state.finish(KeptState(3, arrays(3)))
    written(state, 1)
    assert files(state) == {"fedper-5.round-1.json", "fedper-5.round-1.safetensors"}


def test_a_stale_request_is_refused_and_changes_nothing(state: PersonalState) -> None:
    before = files(written(state, 1, 2, 3, 4))
    with pytest.raises(StateError, match="at round 4 already; the request is stale"):
        state.before(2)
    assert files(state) == before


def test_methods_share_a_folder_without_meeting(state: PersonalState) -> None:
    other = written(PersonalState(state.folder, replace(WHO, method="fedper-50")), 1)
    assert round_before(written(state, 2), 3) == 2
    with pytest.raises(StateError, match="no finished model of fedper-50"):
        other.finished()


@pytest.mark.parametrize(
    "change",
    [{"method": "fedrep-5"}, {"classes": ("yes", "no")}, {"fingerprint": "others"}, {"agreement": "b" * 64}],
)
def test_a_personal_head_of_another_manifest_is_refused(state: PersonalState, change: dict) -> None:
    written(state, 1)
    mine = PersonalState(state.folder, replace(WHO, **change))
    for suffix in ("json", "safetensors"):  # as if someone had copied it there
        path = state.folder / f"fedper-5.round-1.{suffix}"
        path.rename(state.folder / f"{mine.key.method}.round-1.{suffix}")
    with pytest.raises(StateError, match=f"another {next(iter(change))}.*move the file away"):
        mine.before(2)


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"round": 2}, "renamed"), ({"sha256": "0" * 64}, "SHA-256"), ({"facts": 3}, "lacks 'facts'")],
)
def test_a_damaged_file_is_one_clear_error(state: PersonalState, changes: dict, words: str) -> None:
    path = written(state, 1).folder / "fedper-5.round-1.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    with pytest.raises(StateError, match=f"{words}.*move the file away"):
        state.before(2)


@pytest.mark.parametrize("victim", ["safetensors", "json"])
def test_a_full_disk_leaves_the_round_before_whole_and_no_manifest_calls_other_weights_its_own(
    state: PersonalState, victim: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(state, 1, 2)
    whole = store.write_bytes

    def full(path: Path, content: bytes, *, mode: int) -> None:
        if path.suffix == f".{victim}":
            raise OSError(errno.ENOSPC, "No space left on device")
        whole(path, content, mode=mode)

    monkeypatch.setattr(store, "write_bytes", full)
    with pytest.raises(StateError, match="No space left on device"):
        state.write(2, arrays(7))
    monkeypatch.undo()
    assert round_before(state, 3) == 1
    assert round_before(written(state, 2), 3) == 2


def test_a_folder_that_cannot_be_read_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StateError, match="cannot be read"):
        PersonalState(tmp_path / "file", WHO).before(2)


@pytest.mark.parametrize("name", ["../fedper", "a/b", "", ".hidden", "x" * 200])
def test_a_method_name_that_leaves_the_folder_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="cannot be a file name"):
        PersonalState(tmp_path, replace(WHO, method=name))
