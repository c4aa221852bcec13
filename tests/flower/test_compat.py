"""What is used of Flower's private names still does what it did."""

import inspect
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from packaging.requirements import Requirement

from medtl_core.flower import compat

#: Minor versions of Flower that `medtl_core.flower.compat` was read and run against.
TESTED = ("1.41",)
ROOT = Path(__file__).resolve().parents[2]


def required() -> list[Requirement]:
    """What a person's `pip install medtl` may choose from."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = [line for lines in project["optional-dependencies"].values() for line in lines]
    named = [Requirement(line) for line in (*project["dependencies"], *extras)]
    return [requirement for requirement in named if requirement.name != project["name"]]


def test_the_installed_flower_is_one_this_was_read_and_run_against() -> None:
    assert version("flwr").startswith(tuple(f"{minor}." for minor in TESTED)), (
        "this flwr is new here: read medtl_core/flower/compat.py against it, run the deployed tests, add it to TESTED "
        "and to pyproject.toml"
    )


def test_no_flower_may_be_installed_that_was_not_tested() -> None:
    minors = [f"{major}.{minor}" for major in (1, 2) for minor in range(100)]
    ranges = [requirement.specifier for requirement in required() if requirement.name == "flwr"]
    assert len(ranges) == 3
    for allowed in ranges:
        assert tuple(minor for minor in minors if f"{minor}.1" in allowed) == TESTED


def test_what_ci_installs_may_be_installed() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = dict(line.split("==") for line in lines)
    for requirement in required():
        assert pinned[requirement.name] in requirement.specifier, str(requirement)


def test_the_private_names_still_do_what_is_used_of_them() -> None:
    compat.take_identity(7, 1)
    assert compat.empty_run(7).run_id == 7
    context = compat.node_context(7, 1000, {"partition-id": 0}, {"shots": 30})
    assert (context.node_id, context.node_config, context.run_config) == (1000, {"partition-id": 0}, {"shots": 30})
    message = Message(RecordDict({"config": ConfigRecord({"a": 1})}), 1000, "train.x")
    assert (message.metadata.run_id, compat.stamp(message, "m1").metadata.message_id) == (7, "m1")
    assert compat.CLIENT_RAISED == 2


@pytest.mark.door  # reads Flower's whole SuperNode
def test_the_private_names_of_a_hospitals_node_still_are_what_they_were() -> None:
    from flwr.common.config import parse_config_args
    from flwr.supercore.constant import TaskType
    from flwr.supernode import start_client_internal
    from flwr.supernode.cli.flower_supernode import _parse_args_run_supernode
    from flwr.supernode.runtime import run_clientapp

    def arguments(name: str) -> list[str]:
        return list(inspect.signature(getattr(run_clientapp, name)).parameters)

    assert arguments("pull_task_input") == ["client"]
    assert arguments("push_message") == ["client", "message", "context"]
    assert arguments("push_task_output") == ["client", "context", "sub_status", "details"]
    # what pulls the input must not be what unpacks it
    assert not {"install", "fab.content", "load"} & set(inspect.getsource(run_clientapp.pull_task_input).split())
    assert "time.sleep(3)" in inspect.getsource(start_client_internal)
    assert {kind.value for kind in TaskType} >= {"flwr-clientapp", "flwr-agentapp"}
    known = _parse_args_run_supernode().parse_args(
        ["--isolation", "process", "--superexec-auth-secret-file", "f", "--node-config", "n.toml", "--port", "1"]
    )
    assert not known.runtime_dependency_install
    assert parse_config_args(["a='b c'"]) == {"a": "b c"}


@pytest.mark.door  # reads Flower's whole SuperNode
def test_flowers_fixed_pauses_still_have_their_names() -> None:
    from flwr.common.constant import HEARTBEAT_MIN_INTERVAL
    from flwr.supercore import heartbeat
    from flwr.supercore.corestate import in_memory_corestate
    from flwr.supercore.inflatable import inflatable_utils
    from flwr.supernode import fleet_http_connection

    from medtl_core.flower.node import pace

    assert heartbeat.HEARTBEAT_DEFAULT_INTERVAL == fleet_http_connection.HEARTBEAT_DEFAULT_INTERVAL == 30
    assert HEARTBEAT_MIN_INTERVAL <= pace.BEAT
    assert in_memory_corestate.OBJECT_PUSH_SESSION_TTL_SECONDS in (180, pace.PART)  # another test may have set it
    pulls = (inflatable_utils.pull_objects, inflatable_utils.pull_and_inflate_object_from_tree)
    assert [pull.__kwdefaults__["initial_backoff"] for pull in pulls] == [1, 1]


@pytest.mark.parametrize(
    "copy", [compat.isolate, compat.round_trip, lambda one: compat.from_bytes(compat.to_bytes(one))]
)
def test_a_copied_message_shares_no_record_and_keeps_its_id(copy) -> None:
    import numpy as np

    compat.take_identity(1, 1)
    content = RecordDict({"arrays": ArrayRecord({"x": Array(np.arange(3.0))}), "config": ConfigRecord({"a": [1, 2]})})
    message = compat.stamp(Message(content, 1000, "train.x"), "m1")
    twin = copy(message)
    assert (twin.metadata.message_id, message.metadata.message_id) == ("m1", "m1")
    twin.content["arrays"].pop("x")
    twin.content["config"]["a"].append(3)
    twin.content["config"]["b"] = 2
    del twin.content["config"]
    assert list(message.content["arrays"]) == ["x"]
    assert message.content["config"] == {"a": [1, 2]}


def test_a_filled_record_is_the_one_that_flower_makes() -> None:
    values = {"a": 1.5, "b": 2}
    metrics = compat.filled(MetricRecord(), values)
    assert metrics == MetricRecord(values)
    assert metrics.object_id == MetricRecord(values).object_id
    assert compat.filled(RecordDict(), {"metrics": metrics}).object_id == RecordDict({"metrics": metrics}).object_id
    with pytest.raises(TypeError):
        metrics["c"] = "text"  # type: ignore[assignment]
