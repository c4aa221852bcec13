import gc
import threading
import time
import weakref
from collections.abc import Callable

import numpy as np
import pytest
from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp

from medtl_core.flower.grid import LocalGrid, LocalOptions
from medtl_core.flower.records import encode_request


def app_that(act: Callable[[Message], None]) -> ClientApp:
    """A client app that does something with a message and answers it with nothing."""
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        act(message)
        return Message(RecordDict(), reply_to=message)

    return app


def echo() -> ClientApp:
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        message.content["config"]["seen"] = True  # leaves the others' message alone
        calls = context.state.setdefault("calls", ConfigRecord({"n": 0}))
        calls["n"] += 1
        part, shots = context.node_config["partition-id"], context.run_config["shots"]
        who = ConfigRecord({"part": part, "n": calls["n"], "shots": shots})
        return Message(RecordDict({"arrays": message.content["arrays"], "who": who}), reply_to=message)

    return app


def messages(grid: LocalGrid) -> list[Message]:
    shared = encode_request({"x": np.arange(4.0)}, {"seen": False})
    return [Message(shared, node, "train") for node in grid.get_node_ids()]


@pytest.mark.parametrize("wire", [False, True])
@pytest.mark.parametrize("workers", [1, 3])
def test_every_node_answers_its_own_message(wire: bool, workers: int) -> None:
    nodes = [{"partition-id": part} for part in range(7)]
    with LocalGrid(echo(), nodes, {"shots": 30}, LocalOptions(workers=workers, wire=wire)) as grid:
        for turn in (1, 2):
            sent = messages(grid)
            replies = list(grid.send_and_receive(sent))
            assert {m.metadata.reply_to_message_id for m in replies} == {m.metadata.message_id for m in sent}
            assert sorted(m.content["who"]["part"] for m in replies) == list(range(7))
            assert {m.content["who"]["n"] for m in replies} == {turn}
            assert {m.content["who"]["shots"] for m in replies} == {30}
            assert sent[0].content["config"] == {"seen": False}
            assert sorted(m.metadata.src_node_id for m in replies) == [*range(1000, 1007)]


def test_workers_work_side_by_side() -> None:
    barrier, names = threading.Barrier(3, timeout=10), set()

    def act(message: Message) -> None:
        barrier.wait()  # passes only when three are here at once
        names.add(threading.current_thread().name)

    with LocalGrid(app_that(act), [{} for _ in range(6)], {}, LocalOptions(workers=3)) as grid:
        assert grid.workers == 3
        assert not any(reply.has_error() for reply in grid.send_and_receive(messages(grid)))
    assert len(names) == 3


def test_what_waits_side_by_side_is_answered_in_turn_but_for_one_that_takes_long() -> None:
    inside, seen = set[int](), dict[int, int]()

    def act(message: Message) -> None:
        node = message.metadata.dst_node_id
        inside.add(node)
        seen[node] = len(inside)
        time.sleep(0.8 if node == 1006 else 0.03)
        inside.remove(node)

    with LocalGrid(app_that(act), [{} for _ in range(12)], {}, LocalOptions(workers=3)) as grid:
        begun = time.monotonic()
        assert len(list(grid.send_and_receive(messages(grid)))) == 12
        assert time.monotonic() - begun < 2.0  # the others do not wait for the one
    assert max(seen[node] for node in range(1000, 1003)) > 1  # nothing is known of the task yet
    assert max(seen[node] for node in range(1007, 1012)) <= 2  # one beside the one that takes long


def test_one_node_answers_one_message_at_a_time() -> None:
    inside, most = [], []

    def act(message: Message) -> None:
        inside.append(1)
        most.append(len(inside))
        time.sleep(0.02)
        inside.pop()

    with LocalGrid(app_that(act), [{}], {}, LocalOptions(workers=3)) as grid:
        assert len(list(grid.send_and_receive([*messages(grid), *messages(grid), *messages(grid)]))) == 3
    assert max(most) == 1


@pytest.mark.parametrize(("seconds", "nodes"), [(0.0, 200), (0.012, 40)])
def test_few_replies_exist_that_nobody_pulled(seconds: float, nodes: int) -> None:
    live: weakref.WeakSet[Message] = weakref.WeakSet()
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        time.sleep(seconds)
        reply = Message(RecordDict({"arrays": message.content["arrays"]}), reply_to=message)
        live.add(reply)
        return reply

    with LocalGrid(app, [{} for _ in range(nodes)], {}, LocalOptions(workers=2)) as grid:
        ids, most, taken = list(grid.push_messages(messages(grid))), 0, 0
        assert len(live) == 0  # nothing starts before somebody wants it
        while taken < nodes:
            time.sleep(0.001)
            came = list(grid.pull_messages(ids))
            most = max(most, len(live))
            taken += len(came)
            del came
            gc.collect(0)
    assert 0 < most <= 4
