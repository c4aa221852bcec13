"""Personal state under the real apps, in process: restarts of hospitals, missed rounds, damaged files."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from flwr.app import Message

from client.app import app as client_app
from medtl_core.config import settings
from medtl_core.flower.grid import run_local
from server.app import app as server_app
from tests.methods.personal_sites import state_bytes

SMALL = {
    "data": "phantom", "sites": 3, "shots": 12, "image-size": 32, "features": "4", "local-epochs": 1, "test": "sites",
    "methods": "fedper-4,ditto-4,interpolated",
}  # fmt: skip
Fault = Callable[[int, Message], Exception | None]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("whole")


@pytest.fixture(scope="module")
def whole(place: Path, cache: Path) -> tuple[dict, dict[str, bytes]]:
    return run(place, cache)


def run(folder: Path, cache: Path, fault: Fault | None = None, *, wire: bool = False) -> tuple[dict, dict[str, bytes]]:
    values = {**SMALL, "cache": str(cache), "out": str(folder / "out"), "state": str(folder / "state")}
    nodes = [{"partition-id": part, "num-partitions": 3} for part in range(3)]
    run_local(
        server_app, client_app, node_configs=nodes, run_config=settings(values).public(), workers=1, wire=wire,
        fault=fault,
    )  # fmt: skip
    result = json.loads((folder / "out" / "result.json").read_text(encoding="utf-8"))
    return result, state_bytes(folder / "state")


def figures(result: dict) -> dict:
    return {name: (found["figures"], found["by_site"]) for name, found in result["methods"].items()}


def asked(message: Message, task: str, number: int) -> bool:
    """Whether a message asks for round `number` of a task."""
    config = message.content.config_records.get("config", {})
    return message.metadata.message_type == f"train.{task}" and config.get("round") == number


def test_hospitals_that_restart_after_two_rounds_end_at_the_same_bytes(
    tmp_path: Path, cache: Path, whole: tuple[dict, dict[str, bytes]]
) -> None:
    restarts = []

    def restart(node: int, message: Message) -> None:
        if asked(message, "fedper_round", 3) or asked(message, "ditto_round", 3):
            client_app.hospitals.close()  # all that a hospital's process remembers
            restarts.append(node)

    result, state = run(tmp_path, cache, restart, wire=True)
    assert len(restarts) == 6
    assert result["failures"] == []
    assert state == whole[1]
    assert figures(result) == figures(whole[0])


def test_a_state_of_its_own_for_every_hospital_and_run(whole: tuple[dict, dict[str, bytes]]) -> None:
    folders = {tuple(Path(name).parts[:2]) for name in whole[1]}
    assert len(folders) == 3
    assert len({run for run, _ in folders}) == 1
    stems = [f"{method}.{what}" for method in ("fedper-4", "ditto-4") for what in ("round-3", "round-4", "final")]
    stems.append("interpolated.final")
    wanted = {f"{stem}.{suffix}" for stem in stems for suffix in ("json", "safetensors")}
    assert {Path(name).name for name in whole[1]} == wanted


def test_a_repetition_into_the_same_folder_begins_anew_and_ends_alike(
    place: Path, cache: Path, whole: tuple[dict, dict[str, bytes]]
) -> None:
    result, state = run(place, cache)
    assert state == whole[1]
    assert figures(result) == figures(whole[0])


def test_a_hospital_that_missed_a_round_goes_on_and_is_named(
    tmp_path: Path, cache: Path, whole: tuple[dict, dict[str, bytes]]
) -> None:
    victim: list[int] = []

    def away(node: int, message: Message) -> Exception | None:
        if asked(message, "fedper_round", 2) and (not victim or node == victim[0]):
            victim.append(node)
            return RuntimeError("away")
        return None

    result, state = run(tmp_path, cache, away)
    assert len(result["failures"]) == 1
    assert result["methods"]["fedper-4"]["facts"]["began_late"] == []
    assert state.keys() == whole[1].keys()
    assert state != whole[1]
    ditto = {name: content for name, content in state.items() if "ditto" in name}
    assert ditto == {name: content for name, content in whole[1].items() if "ditto" in name}


def test_a_damaged_state_keeps_the_hospital_out_and_the_server_learns_no_path(tmp_path: Path, cache: Path) -> None:
    damaged: list[Path] = []

    def damage(node: int, message: Message) -> None:
        if asked(message, "ditto_round", 3) and not damaged:
            path = sorted((tmp_path / "state").rglob("ditto-4.round-2.safetensors"))[0]
            content = bytearray(path.read_bytes())
            content[-1] ^= 1
            path.write_bytes(content)
            damaged.append(path)

    result, state = run(tmp_path, cache, damage)
    assert {failure["site"] for failure in result["failures"]} == {damaged[0].parent.name}
    # rounds 3 and 4 and the finish; what was never finished is not judged
    assert len(result["failures"]) == 4
    assert all("personal state could not be used" in failure["text"] for failure in result["failures"])
    assert str(tmp_path) not in json.dumps(result["failures"])
    assert len(result["methods"]["ditto-4"]["by_site"]) == 2
    assert np.isfinite(result["methods"]["ditto-4"]["figures"]["balanced_accuracy"])
    assert sum("ditto-4.final.json" in name for name in state) == 2


def test_a_state_folder_that_cannot_be_written_stops_the_run_with_the_hospitals_named(
    tmp_path: Path, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from medtl_core.errors import RunError

    (tmp_path / "state").write_text("in the way")
    with pytest.raises(RunError, match="personal state could not be used"):
        run(tmp_path, cache)
    assert "cannot be written" in caplog.text or "cannot be read" in caplog.text


def test_the_server_cannot_name_a_folder_on_a_deployed_hospitals_disk(tmp_path: Path, cache: Path) -> None:
    """A hospital of its own writes into its own folder, and into nothing that a run names."""
    from medtl_core.data.shared import shared_parts, shared_source
    from tests.hospital import made_hospital
    from tests.manifest import write_manifest

    values = {**SMALL, "cache": str(cache), "out": str(tmp_path / "out"), "state": str(tmp_path / "of the server")}
    chosen = settings({**values, "methods": "ditto-2"})
    examples, nodes = shared_source(chosen).examples, []
    for part in shared_parts(chosen).sites:
        own = tmp_path / "hospitals" / part.name
        write_manifest(examples.take(np.concatenate([part.train, part.test])), own)
        nodes.append(made_hospital(tmp_path / "own" / part.name, part.name, own, cache=str(cache)))
    run_local(server_app, client_app, node_configs=nodes, run_config=chosen.public(), workers=1)
    assert not (tmp_path / "of the server").exists()
    assert len(list((tmp_path / "own").rglob("ditto-2.final.json"))) == 3
