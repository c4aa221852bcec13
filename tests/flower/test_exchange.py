"""Joining and asking over a grid: order, bytes, quorum, deadline, bills and events; hostile replies: test_hostile."""

import gc
import threading
import time
import weakref
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
from flwr.app import ConfigRecord, Message, RecordDict

from medtl_core.errors import RunError
from medtl_core.federation.hospitals import ArraySpec, Reply, Request
from medtl_core.flower import exchange
from medtl_core.flower.delivery import WINDOW, ReplyBuffer
from medtl_core.flower.exchange import ExchangeTerms, GridHospitals
from medtl_core.flower.grid import LocalGrid, LocalOptions

X = np.arange(6.0).reshape(2, 3)
FOUR = ["h000", "h001", "h002", "h003"]


def facts(replies: Iterable[Reply]) -> list[tuple[Any, ...]]:
    return [(reply.site, reply.weight, reply.metrics, reply.arrays["x"].tobytes()) for reply in replies]


class Listening(LocalGrid):
    """Keeps what was last sent to each node."""

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        ready = list(messages)
        self.sent = {message.metadata.dst_node_id: message.content for message in ready}
        return super().push_messages(ready)


class Backwards(LocalGrid):
    """Answers only when all have answered, the last first."""

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        replies: list[Message] = []
        for key in message_ids:
            came: list[Message] = []
            while not came:
                came = list(super().pull_messages([key]))
            replies += came
        return replies[::-1]


# --- joining


def test_joining_registers_names_and_weights_in_order(ward, toy) -> None:
    joined = ward(toy(name="zyxw".__getitem__))
    assert [*joined.hospitals.weights.items()] == [("w", 13), ("x", 12), ("y", 11), ("z", 10)]
    assert joined.hospitals.failures == ()
    told = [(event["done"], event["of"]) for event in joined.events if event["kind"] == "site"]
    assert told == [(number, 4) for number in (1, 2, 3, 4)]


def test_two_nodes_of_one_name_are_both_refused(ward, toy, ask) -> None:
    hospitals = ward(toy(name=lambda part: "twin" if part in (1, 2) else f"h{part}")).hospitals
    assert list(hospitals.weights) == ["h0", "h3"]
    assert [(failure.site, failure.code) for failure in hospitals.failures] == [("twin", "duplicate-site")] * 2
    assert [reply.site for reply in hospitals.ask(ask())] == ["h0", "h3"]


def test_who_does_not_agree_does_not_join(ward, toy) -> None:
    def other(part: int, content: RecordDict) -> RecordDict:
        about = ConfigRecord({**content["about"], "agreement": "other settings"})
        return RecordDict({**content, "about": about}) if part == 1 else content

    twisted = toy(join_twist=other)
    hospitals = ward(twisted).hospitals
    assert list(hospitals.weights) == ["h000", "h002", "h003"]
    assert [(failure.site, failure.code) for failure in hospitals.failures] == [("node 1001", "agreement")]
    with pytest.raises(RunError, match=r"3 of 4 hospitals .* needs 4; node 1001: agreement"):
        ward(twisted, quorum=1.0)


def test_late_nodes_are_waited_for_and_missing_ones_named() -> None:
    class Filling:
        def __init__(self) -> None:
            self.nodes: list[int] = []

        def get_node_ids(self) -> list[int]:
            return self.nodes

    grid = Filling()
    with pytest.raises(RunError, match=r"0 of 2 hospitals connected .* start their SuperNodes"):
        GridHospitals(grid, ExchangeTerms("", 2, 0.5, 0.1)).join()  # type: ignore[arg-type]
    threading.Timer(0.2, lambda: grid.nodes.extend([8, 7])).start()
    assert GridHospitals(grid, ExchangeTerms("", 2, 0.5, 5.0))._await_nodes() == [7, 8]  # type: ignore[arg-type]


# --- what is sent and comes back


def test_replies_come_in_name_order_whatever_their_arrival(ward, ask) -> None:
    hospitals = ward(count=20, grid=Backwards, options=LocalOptions(workers=1)).hospitals
    replies = facts(hospitals.ask(ask()))
    assert [reply[0] for reply in replies] == [f"h{part:03d}" for part in range(20)]
    assert replies == facts(ward(count=20).hospitals.ask(ask()))
    for part, reply in enumerate(replies):
        assert reply[-1] == (2 * X + part).tobytes()


@pytest.mark.parametrize("wire", [False, True])
def test_own_arrays_reach_only_their_hospital(ward, ask, wire: bool) -> None:
    joined = ward(grid=Listening, options=LocalOptions(workers=2, wire=wire))
    request = ask(own=lambda site: {"x": X + int(site[1:]), f"own of {site}": X})
    for part, reply in enumerate(joined.hospitals.ask(request)):
        np.testing.assert_array_equal(reply.arrays["x"], 2 * (X + part) + part)
        assert {*joined.grid.sent[1000 + part].array_records["arrays"]} == {"x", f"own of h{part:03d}"}


def test_only_some_are_asked_and_the_quorum_is_of_all_who_joined(ward, toy, ask) -> None:
    hospitals = toy()
    joined = ward(hospitals, options=LocalOptions(workers=4))
    assert [reply.site for reply in joined.hospitals.ask(ask(only=("h003", "h001", "nobody")))] == ["h001", "h003"]
    assert sorted(part for part, _ in hospitals.asked) == [1, 3]
    assert joined.hospitals.failures == ()
    with pytest.raises(RunError, match="1 of 4 hospitals answered usably, the quorum needs 2"):
        list(joined.hospitals.ask(ask(only=["h002"])))


# --- bills and events


def test_costs_are_booked_by_phase(ward, ask) -> None:
    hospitals = ward().hospitals
    for request in (ask(), ask(), ask(phase="second")):
        list(hospitals.ask(request))
    first, second = hospitals.costs["double"], hospitals.costs["second"]
    assert (first.rounds, second.rounds, hospitals.costs["join"].rounds) == (2, 1, 1)
    assert (first.cpu_seconds, second.cpu_seconds) == (2.0, 1.0)
    assert first.bytes_down == 2 * second.bytes_down > 2 * 4 * X.nbytes
    assert first.bytes_up == 2 * second.bytes_up > 2 * 4 * X.nbytes
    assert 0 < second.wall_seconds < 5
    assert [exchange.phase for exchange in hospitals.exchanges] == ["join", "double", "double", "second"]


def test_events_tell_the_rounds(ward, ask) -> None:
    joined = ward()
    question = Request("double", {"x": X}, {"factor": 2, "round": 3, "of": 20}, {"x": ArraySpec((2, 3))})
    list(joined.hospitals.ask(question))
    (phase,) = [event for event in joined.events if event["kind"] == "phase"]
    assert (phase["phase"], phase["round"], phase["of"]) == ("double", 3, 20)
    last = joined.events[-1]
    assert (last["kind"], last["phase"], last["round"]) == ("exchange", "double", 3)
    assert (last["replies"], last["failures"]) == (4, 0)


# --- deadline, quorum, memory


@pytest.mark.parametrize("slow", [0, 2])
def test_a_hospital_that_misses_the_deadline_is_named(ward, toy, ask, slow: int) -> None:
    slow_one = toy(seconds={slow: 1.0})
    hospitals = ward(slow_one, count=12, deadline=0.4, options=LocalOptions(workers=2)).hospitals
    start = time.monotonic()
    replies = [reply.site for reply in hospitals.ask(ask())]
    assert time.monotonic() - start < 0.9
    assert replies == [f"h{part:03d}" for part in range(12) if part != slow]
    assert [(failure.site, failure.code) for failure in hospitals.failures] == [(f"h{slow:03d}", "missing")]
    time.sleep(max(0.0, 1.1 - (time.monotonic() - start)))
    assert len(list(hospitals.ask(ask()))) == 11  # still slow; and its late answer to the first round was not taken
    assert len(hospitals.failures) == 2


def test_a_slow_caller_loses_no_reply(ward, ask) -> None:
    replies = []
    for reply in ward(deadline=0.2, options=LocalOptions(workers=4)).hospitals.ask(ask()):
        replies.append(reply.site)
        time.sleep(0.25)  # longer than the deadline: what lies ready then still counts
    assert replies == FOUR


def test_below_the_quorum_the_run_ends_after_the_usable_replies(ward, toy, ask) -> None:
    twisted = toy(twist=lambda part, content: content if part < 2 else RecordDict())
    assert len(list(ward(twisted, quorum=0.5).hospitals.ask(ask()))) == 2
    seen = []
    with pytest.raises(RunError, match=r"double: 2 of 4 hospitals .* quorum needs 3; h002: malformed"):
        seen.extend(ward(twisted, quorum=0.75).hospitals.ask(ask()))
    assert [reply.site for reply in seen] == ["h000", "h001"]


@pytest.mark.parametrize("silent", ["twist", "join_twist"])
def test_no_usable_reply_ends_the_run_whatever_the_quorum(ward, toy, ask, silent: str) -> None:
    with pytest.raises(RunError, match="0 of 4 hospitals answered usably, the quorum needs 1"):
        list(ward(toy(**{silent: lambda part, content: RecordDict()}), quorum=0.001).hospitals.ask(ask()))


def test_asking_before_joining_is_refused(ward, ask) -> None:
    with pytest.raises(RunError, match="call join"):
        list(ward(join=False).hospitals.ask(ask()))


def test_memory_does_not_grow_with_the_hospitals(ward, toy, ask, monkeypatch: pytest.MonkeyPatch) -> None:
    live: weakref.WeakSet[Message] = weakref.WeakSet()
    arrays: list[weakref.ref[np.ndarray]] = []
    held: list[int] = []
    validate = exchange.validate

    class Counted(LocalGrid):
        def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
            replies = list(super().pull_messages(message_ids))
            live.update(replies)
            return replies

    def counted(message, expect):
        reply = validate(message, expect)
        arrays.append(weakref.ref(reply.arrays["x"]))
        held.append(sum(ref() is not None for ref in arrays))
        return reply

    monkeypatch.setattr(exchange, "validate", counted)
    # the first hospital is slow: all others answer before its turn
    hospitals = ward(toy(seconds={0: 0.5}), count=100, grid=Counted, options=LocalOptions(workers=2)).hospitals
    sites = []
    for reply in hospitals.ask(ask((40, 40))):
        sites.append(reply.site)
        held.append(len(live))
    assert sites == [f"h{part:03d}" for part in range(100)]
    assert max(held) <= 2 * WINDOW + 4
    assert hospitals.failures == ()


def test_a_caller_that_stops_early_leaves_nothing_behind(ward, ask) -> None:
    joined = ward(count=20)
    assert next(joined.hospitals.ask(ask())).site == "h000"
    gc.collect()
    assert not joined.grid._waiting
    assert not joined.grid._started
    assert len(list(joined.hospitals.ask(ask()))) == 20


@pytest.mark.parametrize("room", [1, 3])
def test_the_buffer_gives_back_what_it_got_from_memory_or_disk(room: int) -> None:
    buffer = ReplyBuffer(room)
    for place in (3, 1, 2):
        buffer.put(place, Reply(f"h{place}", {"a/b": X + place, "file": X[:0]}, {"loss": place}, place))
    buffer.put(4, None)
    assert [place in buffer for place in range(6)] == [False, True, True, True, True, False]
    for place in (1, 2, 3):
        back = buffer.pop(place)
        assert (back.site, back.metrics, back.weight) == (f"h{place}", {"loss": place}, place)
        assert back.arrays.keys() == {"a/b", "file"}
        np.testing.assert_array_equal(back.arrays["a/b"], X + place)
        assert back.arrays["file"].shape == (0, 3)
    assert buffer.pop(4) is None
    buffer.close()
