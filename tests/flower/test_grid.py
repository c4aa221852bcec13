import gc
import threading
import time
import weakref

import numpy as np
import pytest
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

from medtl_core.flower.grid import LocalGrid, LocalOptions, run_local
from medtl_core.flower.records import encode_request


def echo() -> ClientApp:
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        message.content["config"]["seen"] = True  # leaves the others' message alone
        calls = context.state.setdefault("calls", ConfigRecord({"n": 0}))
        calls["n"] += 1
        who = ConfigRecord(
            {"part": context.node_config["partition-id"], "n": calls["n"], "shots": context.run_config["shots"]}
        )
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
        assert [m.metadata.src_node_id for m in sorted(replies, key=lambda m: m.metadata.src_node_id)] == [
            *range(1000, 1007)
        ]


def test_the_wire_changes_nothing() -> None:
    nodes, arrays = [{"partition-id": 0}], []
    for wire in (False, True):
        with LocalGrid(echo(), nodes, {"shots": 30}, LocalOptions(wire=wire)) as grid:
            (reply,) = grid.send_and_receive(messages(grid))
            arrays.append(
                {name: (array.dtype, array.shape, array.data) for name, array in reply.content["arrays"].items()}
            )
    assert arrays[0] == arrays[1]


def test_workers_work_side_by_side() -> None:
    barrier, names = threading.Barrier(3, timeout=10), set()
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        barrier.wait()  # passes only when three are here at once
        names.add(threading.current_thread().name)
        return Message(RecordDict(), reply_to=message)

    with LocalGrid(app, [{} for _ in range(6)], {}, LocalOptions(workers=3)) as grid:
        assert grid.workers == 3
        assert not any(reply.has_error() for reply in grid.send_and_receive(messages(grid)))
    assert len(names) == 3


def test_who_pulls_answers_for_a_hospital_that_was_quick_at_the_task_and_workers_for_the_others() -> None:
    where: dict[tuple[str, int], list[bool]] = {}
    puller = threading.current_thread()
    app = ClientApp()

    def answer(message: Message, context: Context) -> Message:
        task = message.metadata.message_type, message.metadata.dst_node_id
        where.setdefault(task, []).append(threading.current_thread() is puller)
        time.sleep(0.02 if task == ("train.one", 1001) else 0.0)
        return Message(RecordDict(), reply_to=message)

    for name in ("one", "other"):
        app.train(name)(answer)
    with LocalGrid(app, [{} for _ in range(4)], {}, LocalOptions(workers=2)) as grid:
        for kind in ("train.one", "train.one", "train.other", "train.other"):
            assert len(list(grid.send_and_receive([Message(RecordDict(), node, kind) for node in grid.contexts]))) == 4
    quick = {(kind, node): [False, True] for kind in ("train.one", "train.other") for node in range(1000, 1004)}
    assert where == {**quick, ("train.one", 1001): [False, False]}


def test_one_node_answers_one_message_at_a_time() -> None:
    inside, most = [], []
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        inside.append(1)
        most.append(len(inside))
        time.sleep(0.02)
        inside.pop()
        return Message(RecordDict(), reply_to=message)

    with LocalGrid(app, [{}], {}, LocalOptions(workers=3)) as grid:
        list(grid.send_and_receive(messages(grid) * 1 + messages(grid) + messages(grid)))
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


def test_an_error_becomes_the_reply_that_flower_makes() -> None:
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        raise ZeroDivisionError("division by zero")

    def fault(node: int, message: Message) -> Exception | None:
        return OSError("node on fire") if node == 1001 else None

    with LocalGrid(app, [{}, {}], {}, LocalOptions(fault=fault)) as grid:
        replies = sorted(grid.send_and_receive(messages(grid)), key=lambda reply: reply.metadata.src_node_id)
    assert [reply.error.code for reply in replies] == [2, 2]
    assert [reply.error.reason for reply in replies] == [
        "<class 'ZeroDivisionError'>:<'division by zero'>", "<class 'OSError'>:<'node on fire'>",
    ]  # fmt: skip


def test_a_given_up_hospital_holds_nobody() -> None:
    release = threading.Event()
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        if message.metadata.dst_node_id == 1000:
            release.wait(10)
        return Message(RecordDict(), reply_to=message)

    start = time.monotonic()
    with LocalGrid(app, [{} for _ in range(5)], {}, LocalOptions(workers=2)) as grid:
        assert len(list(grid.send_and_receive(messages(grid), timeout=0.3))) == 4
        again = [message for message in messages(grid) if message.metadata.dst_node_id != 1000]
        assert len(list(grid.send_and_receive(again, timeout=5))) == 4
    assert time.monotonic() - start < 5
    release.set()


def test_run_local_gives_the_apps_their_configs_and_lets_errors_through() -> None:
    server, told = ServerApp(), []

    @server.main()
    def main(grid: Grid, context: Context) -> None:
        replies = list(grid.send_and_receive(messages(grid)))
        grid.listener({"kind": "answered", "replies": len(replies), "shots": context.run_config["shots"]})
        if context.run_config["fail"]:
            raise ValueError("as planned")

    nodes = [{"partition-id": part} for part in range(3)]
    for wire in (False, True):
        run_local(
            server, echo(), node_configs=nodes, run_config={"shots": 7, "fail": False}, wire=wire, listener=told.append
        )
    assert told == [{"kind": "answered", "replies": 3, "shots": 7}] * 2
    with pytest.raises(ValueError, match="as planned"):
        run_local(server, echo(), node_configs=nodes, run_config={"shots": 7, "fail": True}, listener=told.append)


def test_flower_s_own_strategy_runs_on_it() -> None:
    from flwr.app import Array, MetricRecord

    app, server, found = ClientApp(), ServerApp(), {}

    @app.train()
    def train(message: Message, context: Context) -> Message:
        part = context.node_config["partition-id"]
        arrays = ArrayRecord({"x": Array(message.content["arrays"]["x"].numpy() + part)})
        return Message(RecordDict({"arrays": arrays, "metrics": MetricRecord({"num-examples": 1})}), reply_to=message)

    @server.main()
    def main(grid: Grid, context: Context) -> None:
        strategy = FedAvg(min_train_nodes=3, min_available_nodes=3, fraction_evaluate=0.0)
        result = strategy.start(grid, ArrayRecord({"x": Array(np.zeros(2))}), num_rounds=2)
        found["x"] = result.arrays["x"].numpy()

    run_local(server, app, node_configs=[{"partition-id": part} for part in range(3)], run_config={}, workers=2)
    np.testing.assert_allclose(found["x"], [2.0, 2.0])  # it adds in order of arrival
