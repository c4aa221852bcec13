"""Hostile and unlucky hospitals, and what a network does to messages, over whole exchanges; one reply: test_records."""

from collections.abc import Callable, Iterable

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, Context, Error, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg
from flwr.supercore.inflatable.inflatable_utils import ObjectPullError, ObjectUnavailableError, pull_objects

from medtl_core.errors import DataError
from medtl_core.flower.grid import LocalGrid, LocalOptions, run_local

X = np.arange(6.0).reshape(2, 3)
OTHERS = ["h000", "h002", "h003"]


HOSTILE = {
    "shape": lambda content: RecordDict({**content, "arrays": ArrayRecord({"x": Array(X.T.copy())})}),
    "missing-array": lambda content: RecordDict({**content, "arrays": ArrayRecord()}),
    "malformed": lambda content: RecordDict(),
}


@pytest.mark.parametrize("wire", [False, True])
@pytest.mark.parametrize("code", HOSTILE)
def test_a_hostile_reply_costs_only_itself(ward, toy, ask, code: str, wire: bool) -> None:
    twisted = toy(twist=lambda part, content: HOSTILE[code](content) if part == 1 else content)
    joined = ward(twisted, options=LocalOptions(workers=2, wire=wire))
    assert [reply.site for reply in joined.hospitals.ask(ask())] == OTHERS
    assert [(failure.site, failure.code) for failure in joined.hospitals.failures] == [("h001", code)]
    failed = [event for event in joined.events if event["kind"] == "failure"]
    assert [(event["site"], event["code"], event["phase"]) for event in failed] == [("h001", code, "double")]
    assert joined.hospitals.costs["double"].bytes_up > 0


@pytest.mark.parametrize("metric", [float("nan"), float("inf"), [1.0, 2.0], -5.0, 1e300])
def test_a_hostile_answer_to_join_does_not_end_the_run(ward, toy, metric: object) -> None:
    def twist(part: int, content: RecordDict) -> RecordDict:
        return RecordDict({**content, "metrics": MetricRecord({"cpu-seconds": metric})}) if part == 1 else content

    hospitals = ward(toy(join_twist=twist)).hospitals
    assert set(hospitals.weights) >= set(OTHERS)
    assert 0 <= hospitals.costs["join"].cpu_seconds < 1


def test_of_an_exception_only_the_class_is_told(ward, toy, ask) -> None:
    def twist(part: int, content: RecordDict) -> RecordDict:
        if part == 2:
            raise DataError("patient 4711 in /data/x.png")
        return content

    def fault(node: int, message: Message) -> Exception | None:  # what no guard has caught
        late = node == 1001 and message.metadata.message_type == "train.double"
        return FileNotFoundError("/srv/patients/4711.png") if late else None

    hospitals = ward(toy(twist=twist), options=LocalOptions(fault=fault)).hospitals
    assert [reply.site for reply in hospitals.ask(ask())] == ["h000", "h003"]
    crashed, raised = sorted(hospitals.failures, key=lambda failure: failure.site)
    assert (crashed.site, crashed.code) == ("h001", "client-error")
    assert "FileNotFoundError" in crashed.text
    assert "4711" not in crashed.text
    assert (raised.site, raised.code, raised.text) == ("h002", "error", f"DataError: {DataError.public_text}")


# --- the network


def altered(node: int, alter: Callable[[Message], None]) -> type[LocalGrid]:
    """A grid on which one node's reply to the task is altered underway."""

    class Altered(LocalGrid):
        def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
            for message in super().pull_messages(message_ids):
                if message.metadata.src_node_id == node and message.metadata.message_type == "train.double":
                    alter(message)
                yield message

    return Altered


def vanish(message: Message) -> None:
    """Flower answers in the node's place, with the SuperLink's own node id."""
    message.metadata.__dict__["_src_node_id"] = 1
    message.__dict__.update(_content=None, _error=Error(code=5, reason="Node Unavailable"))


class Breaker(LocalGrid):
    """A grid on which one node's bytes cannot be read, as a hostile SuperNode can bring about."""

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        if "bad" in message_ids:
            raise ValueError("Unexpected format for object head.")
        return super().pull_messages(message_ids)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        ids = []
        for message in messages:
            (key,) = super().push_messages([message])
            if message.metadata.message_type == "train.double" and message.metadata.dst_node_id == 1001:
                self._waiting["bad"] = self._waiting.pop(key)
                key = "bad"
            ids.append(key)
        return ids


class Unsent(LocalGrid):
    """A grid that does not take the message for one node."""

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        return [
            None if message.metadata.dst_node_id == 1001 and "train" in message.metadata.message_type else key
            for message in messages
            for key in super(Unsent, self).push_messages([message])
        ]


class Halved(LocalGrid):
    """A grid on which one node's reply is announced and never complete, as when its line breaks while it sends."""

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        for message in super().pull_messages(message_ids):
            if message.metadata.src_node_id == 1001 and message.metadata.message_type == "train.double":
                with pytest.raises(ObjectPullError):
                    pull_objects(["part"], absent)
                message.__dict__.update(_content=None, _error=Error(code=3, reason="the upload was not completed"))
            yield message


def absent(part: str) -> bytes:
    raise ObjectUnavailableError(part)


@pytest.mark.parametrize(
    ("grid", "code"),
    [
        (altered(1001, lambda message: message.metadata.__dict__.update(_run_id=77)), "run"),
        (altered(1001, lambda message: message.metadata.__dict__.update(_src_node_id=1002)), "node"),
        (altered(1001, vanish), "node-unavailable"),
        (Breaker, "unreadable"),
        (Unsent, "not-sent"),
    ],
)
def test_what_the_network_does_to_a_reply_is_named(ward, ask, grid: type[LocalGrid], code: str) -> None:
    hospitals = ward(grid=grid).hospitals
    assert [reply.site for reply in hospitals.ask(ask())] == OTHERS
    assert [(failure.site, failure.code) for failure in hospitals.failures] == [("h001", code)]


def test_a_reply_that_is_never_complete_is_given_up_at_the_deadline(ward, ask) -> None:
    hospitals = ward(grid=Halved, deadline=2.0).hospitals
    assert [reply.site for reply in hospitals.ask(ask())] == OTHERS
    assert [(failure.site, failure.code) for failure in hospitals.failures] == [("h001", "expired")]


class Forger(LocalGrid):
    """A grid that repeats and invents replies."""

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        for message in super().pull_messages(message_ids):
            yield message
            if message.metadata.message_type != "train.double":
                continue
            if message.metadata.src_node_id == 1001:
                yield message
            if message.metadata.src_node_id == 1002:
                stray = Message(message.content, 1, "train.double")
                stray.metadata.__dict__.update(_reply_to_message_id="never asked", _src_node_id=1002)
                yield stray


def test_a_duplicate_and_a_foreign_reply_change_nothing(ward, ask) -> None:
    hospitals = ward(grid=Forger).hospitals
    assert [reply.site for reply in hospitals.ask(ask())] == ["h000", "h001", "h002", "h003"]
    failures = sorted((failure.site, failure.code) for failure in hospitals.failures)
    assert failures == [("h001", "duplicate"), ("h002", "foreign")]


def test_flower_s_own_strategy_runs_and_its_info_lines_stay_off_the_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    client, server = ClientApp(), ServerApp()

    @client.train()
    def train(message: Message, context: Context) -> Message:
        x = Array(message.content["arrays"]["x"].numpy() + context.node_config["partition-id"])
        metrics = MetricRecord({"num-examples": 1})
        return Message(RecordDict({"arrays": ArrayRecord({"x": x}), "metrics": metrics}), reply_to=message)

    @server.main()
    def main(grid: Grid, context: Context) -> None:
        strategy = FedAvg(min_train_nodes=3, min_available_nodes=3, fraction_evaluate=0.0)
        result = strategy.start(grid, ArrayRecord({"x": Array(np.zeros(2))}), num_rounds=2)
        np.testing.assert_allclose(result.arrays["x"].numpy(), [2.0, 2.0])

    nodes = [{"partition-id": part} for part in range(3)]
    run_local(server, client, node_configs=nodes, run_config={}, workers=2)
    shown = capfd.readouterr()
    assert shown.out == ""
    assert "INFO" not in shown.err
