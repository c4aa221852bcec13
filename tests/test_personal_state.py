"""A hospital's personal state: what survives, what is refused, and what a full disk leaves behind."""

import errno
import json
import stat
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


def files(state: PersonalState) -> set[str]:
    return {path.name for path in state.folder.iterdir()}


def test_a_round_reads_what_the_round_before_left(state: PersonalState) -> None:
    assert state.before(1) is None
    for number in (1, 2, 3):
        state.write(number, arrays(number))
    kept = state.before(4)
    assert kept is not None
    assert kept.round == 3
    assert kept.arrays["head"].tolist() == [[3.0] * 3] * 2
    assert (kept.arrays["head"].dtype, kept.arrays["bias"].dtype) == (np.float32, np.float64)


def test_a_repeated_request_reads_the_same_arrays_again(state: PersonalState) -> None:
    state.write(1, arrays(1))
    state.write(2, arrays(2))
    for _ in range(2):
        again = state.before(2)
        assert again is not None
        assert (again.round, again.arrays["bias"].tolist()) == (1, [1.0, 1.0])
        state.write(2, arrays(2))
    assert files(state) == {f"fedper-5.round-{n}.{suffix}" for n in (1, 2) for suffix in ("json", "safetensors")}


def test_a_hospital_that_missed_rounds_goes_on_from_its_newest(state: PersonalState) -> None:
    state.write(1, arrays(1))
    kept = state.before(5)
    assert kept is not None
    assert kept.round == 1
    state.write(5, arrays(5))
    repeated = state.before(5)
    assert repeated is not None
    assert repeated.round == 1


def test_a_hospital_that_joins_late_finds_nothing_even_when_asked_twice(state: PersonalState) -> None:
    assert state.before(3) is None
    state.write(3, arrays(3))
    assert state.before(3) is None


def test_a_stale_request_is_refused_and_changes_nothing(state: PersonalState) -> None:
    for number in (1, 2, 3, 4):
        state.write(number, arrays(number))
    before = files(state)
    with pytest.raises(StateError, match=r"at round 4 already; the request is stale"):
        state.before(2)
    assert files(state) == before


def test_round_one_begins_anew(state: PersonalState) -> None:
    state.write(4, arrays(4))
    state.finish(KeptState(4, arrays(4)))
    assert state.before(1) is None
    state.write(1, arrays(1))
    assert files(state) == {"fedper-5.round-1.json", "fedper-5.round-1.safetensors"}


def test_methods_share_a_folder_without_meeting(state: PersonalState) -> None:
    other = PersonalState(state.folder, replace(WHO, method="fedper-50"))
    state.write(2, arrays(2))
    other.write(1, arrays(7))
    kept = state.before(3)
    assert kept is not None
    assert kept.round == 2
    with pytest.raises(StateError, match="no finished model of fedper-50"):
        other.finished()


def test_the_finished_model_comes_back_with_its_facts(state: PersonalState) -> None:
    state.finish(KeptState(5, arrays(9), {"kind": "affine"}))
    kept = state.finished()
    assert (kept.round, kept.facts, kept.arrays["bias"].tolist()) == (5, {"kind": "affine"}, [9.0, 9.0])


def test_only_the_owner_may_read(state: PersonalState) -> None:
    state.write(1, arrays(1))
    assert stat.S_IMODE(state.folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in state.folder.iterdir()} == {0o600}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"method": "fedrep-5"}, "another method"),
        ({"classes": ("yes", "no")}, "another classes"),
        ({"fingerprint": "others"}, "another fingerprint"),
        ({"agreement": "b" * 64}, "another agreement"),
    ],
)
def test_a_personal_head_of_another_manifest_is_refused(state: PersonalState, change: dict, message: str) -> None:
    state.write(1, arrays(1))
    mine = PersonalState(state.folder, replace(WHO, **change))
    for suffix in ("json", "safetensors"):  # as if someone had copied it there
        path = state.folder / f"fedper-5.round-1.{suffix}"
        path.rename(state.folder / f"{mine.key.method}.round-1.{suffix}")
    with pytest.raises(StateError, match=f"{message}.*move the file away"):
        mine.before(2)


def damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: damage(folder / "fedper-5.round-1.safetensors"), "SHA-256 differs"),
        (lambda folder: (folder / "fedper-5.round-1.safetensors").write_bytes(b""), "SHA-256 differs"),
        (lambda folder: (folder / "fedper-5.round-1.safetensors").unlink(), "cannot be read"),
        (lambda folder: (folder / "fedper-5.round-1.json").write_text("{"), "cannot be read"),
        (lambda folder: (folder / "fedper-5.round-1.json").write_text("[]"), "not the manifest of a personal state"),
        (lambda folder: edit(folder, sha256=3), "lacks 'sha256'"),
        (lambda folder: edit(folder, round=2), "it was renamed"),
        (lambda folder: edit(folder, schema=99), "this version of medtl"),
    ],
)
def test_a_damaged_file_is_one_clear_error(state: PersonalState, spoil, message: str) -> None:
    state.write(1, arrays(1))
    spoil(state.folder)
    with pytest.raises(StateError, match=message):
        state.before(2)


def edit(folder: Path, **changes: object) -> None:
    path = folder / "fedper-5.round-1.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_bytes_that_are_no_safetensors_are_refused_even_when_the_manifest_agrees(state: PersonalState) -> None:
    import hashlib

    state.write(1, arrays(1))
    (state.folder / "fedper-5.round-1.safetensors").write_bytes(b"not tensors")
    edit(state.folder, sha256=hashlib.sha256(b"not tensors").hexdigest())
    with pytest.raises(StateError, match="not a safetensors file"):
        state.before(2)


@pytest.mark.parametrize("victim", ["safetensors", "json"])
def test_a_full_disk_leaves_the_round_before_whole(
    state: PersonalState, victim: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    state.write(1, arrays(1))
    whole = store.write_bytes

    def full(path: Path, content: bytes, *, mode: int) -> None:
        if path.suffix == f".{victim}":
            raise OSError(errno.ENOSPC, "No space left on device")
        whole(path, content, mode=mode)

    monkeypatch.setattr(store, "write_bytes", full)
    with pytest.raises(StateError, match=r"No space left on device\); make room"):
        state.write(2, arrays(2))
    monkeypatch.undo()
    kept = state.before(2)
    assert kept is not None
    assert kept.round == 1
    state.write(2, arrays(2))
    again = state.before(3)
    assert again is not None
    assert again.arrays["bias"].tolist() == [2.0, 2.0]


def test_a_folder_that_cannot_be_made_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StateError, match="cannot be written"):
        PersonalState(tmp_path / "file" / "hospital", WHO).write(1, arrays(1))
    with pytest.raises(StateError, match="cannot be read"):
        PersonalState(tmp_path / "file", WHO).before(2)


def test_numbers_that_are_not_finite_are_not_kept(state: PersonalState) -> None:
    with pytest.raises(StateError, match="not finite"):
        state.write(1, {"head": np.array([np.nan])})
    assert not state.folder.exists()


@pytest.mark.parametrize("name", ["../fedper", "a/b", "", ".hidden", "x" * 200])
def test_a_method_name_that_leaves_the_folder_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="cannot be a file name"):
        PersonalState(tmp_path, replace(WHO, method=name))
