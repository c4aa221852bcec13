"""Hostile and unlucky hospitals over whole exchanges, where test_records looks at one reply alone."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from medtl_core.errors import RunError
from medtl_core.flower.grid import LocalGrid, LocalOptions
from medtl_core.flower.records import RefusedError, decode_request

X = np.arange(6.0).reshape(2, 3)
OTHERS = ["h000", "h002", "h003"]


def npy(header: str, body: bytes = b"\0" * 48) -> bytes:
    head = header.encode()
    head += b" " * (-(len(head) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head + body


def claim(content: RecordDict, data: bytes, shape: tuple[int, ...] = (2, 3)) -> RecordDict:
    content["arrays"] = ArrayRecord({"x": Array("float64", shape, "numpy.ndarray", data)})
    return content


TERA = "{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000,), }"
PICKLE = "{'descr': '|O', 'fortran_order': False, 'shape': (2, 3), }"
SWAPPED = "{'descr': '>f8', 'fortran_order': False, 'shape': (2, 3), }"
HOSTILE = {
    "a tera of floats in the header": ("header", lambda c: claim(c, npy(TERA))),
    "a tera of floats declared too": ("shape", lambda c: claim(c, npy(TERA), (10**12,))),
    "pickled objects": ("header", lambda c: claim(c, npy(PICKLE, b"\x80\x04\x8c\x05posix\x94." + b"\0" * 37))),
    "the other byte order": ("header", lambda c: claim(c, npy(SWAPPED))),
    "a scalar": ("shape", lambda c: RecordDict({**c, "arrays": ArrayRecord({"x": Array(np.zeros(()))})})),
    "infinity": ("not-finite", lambda c: RecordDict({**c, "arrays": ArrayRecord({"x": Array(X + np.inf)})})),
    "negative weight": ("weight", lambda c: c["about"].update({"weight": -11}) or c),
    "metrics that are lists": ("malformed", lambda c: RecordDict({**c, "metrics": MetricRecord({"loss": [1.0]})})),
}  # fmt: skip


@pytest.mark.parametrize("wire", [False, True])
@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_reply_costs_only_itself(ward, toy, ask, kind: str, wire: bool) -> None:
    code, twist = HOSTILE[kind]
    bad = toy(twist=lambda part, content: twist(content) if part == 1 else content)
    hospitals = ward(bad, options=LocalOptions(workers=2, wire=wire)).hospitals
    assert [reply.site for reply in hospitals.ask(ask())] == OTHERS
    assert [(failure.site, failure.code) for failure in hospitals.failures] == [("h001", code)]


@pytest.mark.parametrize("metric", [float("nan"), float("inf"), [1.0, 2.0], -5.0, 1e300])
def test_a_hostile_answer_to_join_does_not_end_the_run(ward, toy, metric: object) -> None:
    def twist(part: int, content: RecordDict) -> RecordDict:
        return RecordDict({**content, "metrics": MetricRecord({"cpu-seconds": metric})}) if part == 1 else content

    hospitals = ward(toy(join_twist=twist)).hospitals
    assert set(hospitals.weights) >= set(OTHERS)
    assert 0 <= hospitals.costs["join"].cpu_seconds < 1


class Foreign(LocalGrid):
    """One node answers with the id of another run."""

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        for message in super().pull_messages(message_ids):
            if message.metadata.src_node_id == 1001 and message.metadata.message_type == "train.double":
                message.metadata.__dict__["_run_id"] = 77
            yield message


class Impostor(LocalGrid):
    """One node's question is answered by another node."""

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        for message in super().pull_messages(message_ids):
            if message.metadata.src_node_id == 1001 and message.metadata.message_type == "train.double":
                message.metadata.__dict__["_src_node_id"] = 1002
            yield message


@pytest.mark.parametrize(("grid", "code"), [(Foreign, "run"), (Impostor, "node")])
def test_a_reply_of_another_run_or_node_is_refused(ward, ask, grid: type[LocalGrid], code: str) -> None:
    hospitals = ward(grid=grid).hospitals
    assert [reply.site for reply in hospitals.ask(ask())] == OTHERS
    assert [(failure.site, failure.code) for failure in hospitals.failures] == [("h001", code)]


class Backwards(LocalGrid):
    """Answers only when all have answered, the last first."""

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        return list(self.send_and_wait(list(message_ids)))[::-1]

    def send_and_wait(self, ids: list[str]) -> Iterable[Message]:
        for key in ids:
            got: list[Message] = []
            while not got:
                got = list(super().pull_messages([key]))
            yield from got


def test_replies_that_arrive_backwards_are_put_in_order(ward, ask) -> None:
    hospitals = ward(count=20, grid=Backwards, options=LocalOptions(workers=1)).hospitals
    replies = list(hospitals.ask(ask()))
    assert [reply.site for reply in replies] == [f"h{part:03d}" for part in range(20)]
    for part, reply in enumerate(replies):
        np.testing.assert_array_equal(reply.arrays["x"], 2 * X + part)


def test_own_arrays_reach_only_their_hospital(ward, toy, ask) -> None:
    got: dict[int, set[str]] = {}

    class Listening(LocalGrid):
        def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
            kept = list(messages)
            for message in kept:
                got[message.metadata.dst_node_id] = {*message.content.array_records.get("arrays", {})}
            return super().push_messages(kept)

    hospitals = ward(grid=Listening, count=3).hospitals
    assert len(list(hospitals.ask(ask(own=lambda site: {f"own of {site}": X})))) == 3
    assert got == {1000 + part: {"x", f"own of h{part:03d}"} for part in range(3)}


def test_the_exception_of_an_unguarded_handler_is_not_told(ward, ask) -> None:
    def fault(node: int, message: Message) -> Exception | None:
        late = node == 1001 and message.metadata.message_type == "train.double"
        return FileNotFoundError("/srv/patients/4711.png") if late else None

    hospitals = ward(options=LocalOptions(fault=fault)).hospitals
    assert [reply.site for reply in hospitals.ask(ask())] == OTHERS
    (failure,) = hospitals.failures
    assert (failure.site, failure.code) == ("h001", "client-error")
    assert "FileNotFoundError" in failure.text
    assert "4711" not in failure.text


def test_no_hospital_at_all_ends_the_run(ward, toy) -> None:
    with pytest.raises(RunError, match="0 of 3 hospitals"):
        ward(toy(join_twist=lambda part, content: RecordDict()), count=3, quorum=0.01)


def test_a_hospital_still_at_work_blocks_no_worker_of_the_next_round() -> None:
    release, app = threading.Event(), ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        if message.metadata.dst_node_id == 1000:
            release.wait(20)
        return Message(RecordDict(), reply_to=message)

    with LocalGrid(app, [{} for _ in range(5)], {}, LocalOptions(workers=2)) as grid:
        for _ in range(2):
            sent = [Message(RecordDict(), node, "train") for node in grid.get_node_ids()]
            answered = {m.metadata.src_node_id for m in grid.send_and_receive(sent, timeout=0.4)}
            assert answered == {1001, 1002, 1003, 1004}
        release.set()


def test_a_request_of_negative_size_is_refused() -> None:
    header = "{'descr': '<f8', 'fortran_order': False, 'shape': (-2, -3), }"
    content = claim(RecordDict({"config": ConfigRecord()}), npy(header), (-2, -3))
    with LocalGrid(ClientApp(), [], {}):
        message = Message(content, 1000, "train.x")
    with pytest.raises(RefusedError, match="disagree"):
        decode_request(message)


def test_flower_s_info_lines_stay_off_the_terminal() -> None:
    code = """
import logging
from flwr.app import ArrayRecord, Array, MetricRecord, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import ServerApp
from flwr.serverapp.strategy import FedAvg
import numpy as np
from medtl_core.flower.grid import run_local
client, server = ClientApp(), ServerApp()
@client.train()
def train(message, context):
    records = {"arrays": message.content["arrays"], "metrics": MetricRecord({"num-examples": 1})}
    return Message(RecordDict(records), reply_to=message)
@server.main()
def main(grid, context):
    logging.getLogger("root").warning("heard")
    strategy = FedAvg(min_train_nodes=2, min_available_nodes=2, fraction_evaluate=0.0)
    strategy.start(grid, ArrayRecord({"x": Array(np.zeros(2))}), num_rounds=1)
run_local(server, client, node_configs=[{}, {}], run_config={})
"""
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, env={**os.environ, "PYTHONPATH": str(root)}, capture_output=True,
        text=True, timeout=60, check=True,
    )  # fmt: skip
    assert done.stdout == ""
    assert done.stderr.startswith("heard\n")  # and then at most what Flower warns of
    assert "INFO" not in done.stderr
    assert "Received" not in done.stderr
