import gc
import threading
import time
import weakref
from collections.abc import Iterable

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict

from medtl_core.errors import DataError, RunError
from medtl_core.federation.hospitals import ArraySpec, Request
from medtl_core.flower import exchange
from medtl_core.flower.delivery import WINDOW
from medtl_core.flower.grid import LocalGrid, LocalOptions

X = np.arange(6.0).reshape(2, 3)


def put(content: RecordDict, array: np.ndarray, *more: str) -> RecordDict:
    content["arrays"] = ArrayRecord({name: Array(array) for name in ("x", *more)})
    return content


def about(content: RecordDict, **values: object) -> RecordDict:
    content["about"] = ConfigRecord({**content["about"], **values})
    return content


def test_joining_registers_names_and_weights_in_order(ward, toy) -> None:
    found = ward(toy(name="zyxw".__getitem__))
    assert dict(found.hospitals.weights) == {"w": 13, "x": 12, "y": 11, "z": 10}
    assert list(found.hospitals.weights) == ["w", "x", "y", "z"]
    assert found.hospitals.failures == ()
    assert [(event["done"], event["of"]) for event in found.events if event["kind"] == "site"] == [
        (i, 4) for i in (1, 2, 3, 4)
    ]


@pytest.mark.parametrize("workers", [1, 3])
def test_the_wire_changes_no_byte(ward, ask, workers: int) -> None:
    answers = []
    for wire in (False, True):
        hospitals = ward(options=LocalOptions(workers=workers, wire=wire)).hospitals
        answers.append([(r.site, r.weight, r.metrics, r.arrays["x"].tobytes()) for r in hospitals.ask(ask())])
        np.testing.assert_array_equal(next(hospitals.ask(ask())).arrays["x"], 2 * X)
    assert answers[0] == answers[1]
    assert [answer[0] for answer in answers[0]] == ["h000", "h001", "h002", "h003"]


def test_replies_come_in_name_order_whatever_their_arrival(ward, toy, ask) -> None:
    late_first = toy(seconds={0: 0.3, 1: 0.2, 2: 0.1})
    replies = list(ward(late_first, options=LocalOptions(workers=4)).hospitals.ask(ask()))
    assert [reply.site for reply in replies] == ["h000", "h001", "h002", "h003"]
    np.testing.assert_array_equal(replies[3].arrays["x"], 2 * X + 3)


def test_each_hospital_gets_its_own_arrays(ward, ask) -> None:
    request = ask(own=lambda site: {"x": X + int(site[1:])})
    for part, reply in enumerate(ward(options=LocalOptions(workers=2, wire=True)).hospitals.ask(request)):
        np.testing.assert_array_equal(reply.arrays["x"], 2 * (X + part) + part)


def test_only_some_are_asked_and_the_quorum_is_of_all_who_joined(ward, toy, ask) -> None:
    hospitals = toy()
    found = ward(hospitals, options=LocalOptions(workers=4))
    assert [reply.site for reply in found.hospitals.ask(ask(only=("h003", "h001", "nobody")))] == ["h001", "h003"]
    assert sorted(part for part, _ in hospitals.asked) == [1, 3]
    assert found.hospitals.failures == ()
    with pytest.raises(RunError, match="1 of 4 hospitals answered usably, the quorum needs 2"):
        list(found.hospitals.ask(ask(only=["h002"])))


@pytest.mark.parametrize("wire", [False, True])
def test_each_hospital_is_sent_what_it_showed_and_shows_where_it_stands(ward, toy, ask, wire: bool) -> None:
    sent: list[dict[int, object]] = []

    def stands(part: int, content: RecordDict) -> RecordDict:
        seq = 10 * len(sent) + part
        return about(content, **{"witness-ledger": "hospital", "witness-seq": seq, "witness-hash": f"{seq:064x}"})

    twisted = toy(twist=stands)
    found = ward(twisted, options=LocalOptions(workers=2, wire=wire))
    messages = found.hospitals._messages

    def noting(request: Request) -> dict[int, tuple[RecordDict, str]]:
        made = messages(request)
        rows = enumerate(content.config_records["config"] for content, _ in made.values())
        sent.append({part: row.get("witness-seq") for part, row in rows})
        return made

    found.hospitals._messages = noting
    for number in (1, 2):
        replies = list(found.hospitals.ask(ask(ledger="private-mean")))
        assert [reply.witness.seq for reply in replies] == [10 * number + part for part in range(4)]
    list(found.hospitals.ask(ask(ledger="private-discriminant", own=lambda site: {"x": X + 1})))
    assert [reply.witness for reply in found.hospitals.ask(ask())] == [None] * 4
    assert sent[0] == sent[3] == dict.fromkeys(range(4))  # nothing is known yet; no ledger is asked
    assert sent[1] == {part: 10 + part for part in range(4)}
    assert sent[2] == {part: 20 + part for part in range(4)}


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
    keys = {"phase", "round", "seconds", "bytes_up", "bytes_down", "cpu_seconds", "replies", "failures"}
    assert all(row.keys() == keys for row in hospitals.history)
    assert [row["phase"] for row in hospitals.history] == ["join", "double", "double", "second"]


def test_events_tell_the_rounds(ward, ask) -> None:
    found = ward()
    request = Request("double", {"x": X}, {"factor": 2, "round": 3, "of": 20}, {"x": ArraySpec((2, 3))})
    list(found.hospitals.ask(request))
    (phase,) = [event for event in found.events if event["kind"] == "phase"]
    assert (phase["phase"], phase["round"], phase["of"]) == ("double", 3, 20)
    last = found.events[-1]
    assert (last["kind"], last["phase"], last["round"], last["replies"], last["failures"]) == (
        "exchange",
        "double",
        3,
        4,
        0,
    )


HOSTILE = {
    "shape": lambda content: put(content, X.T.copy()),
    "dtype": lambda content: put(content, X.astype(np.float32)),
    "not-finite": lambda content: put(content, np.where(X == 2, np.nan, X)),
    "weight": lambda content: about(content, weight=10**12),
    "agreement": lambda content: about(content, agreement="of another run"),
    "unknown-site": lambda content: about(content, site="h003"),
    "malformed": lambda content: RecordDict(),
    "missing-array": lambda content: RecordDict({**content, "arrays": ArrayRecord()}),
    "unknown-array": lambda content: put(content, X, "y"),
}  # fmt: skip


@pytest.mark.parametrize("wire", [False, True])
@pytest.mark.parametrize("code", HOSTILE)
def test_a_hostile_reply_is_refused_and_the_others_arrive(ward, toy, ask, code: str, wire: bool) -> None:
    twisted = toy(twist=lambda part, content: HOSTILE[code](content) if part == 1 else content)
    found = ward(twisted, options=LocalOptions(workers=2, wire=wire))
    assert [reply.site for reply in found.hospitals.ask(ask())] == ["h000", "h002", "h003"]
    assert [(failure.site, failure.code) for failure in found.hospitals.failures] == [("h001", code)]
    assert [(e["site"], e["code"], e["phase"]) for e in found.events if e["kind"] == "failure"] == [
        ("h001", code, "double")
    ]
    assert found.hospitals.costs["double"].bytes_up > 0


def test_a_hospital_that_raises_tells_its_class_only(ward, toy, ask) -> None:
    def twist(part: int, content: RecordDict) -> RecordDict:
        if part == 2:
            raise DataError("patient 4711 in /data/x.png")
        return content

    hospitals = ward(toy(twist=twist)).hospitals
    assert [reply.site for reply in hospitals.ask(ask())] == ["h000", "h001", "h003"]
    (failure,) = hospitals.failures
    assert (failure.site, failure.code, failure.text) == ("h002", "error", f"DataError: {DataError.public_text}")


def test_a_crash_outside_the_guard_is_named_too(ward, ask) -> None:
    def fault(node: int, message: Message) -> Exception | None:
        return MemoryError("out") if node == 1003 and message.metadata.message_type == "train.double" else None

    hospitals = ward(options=LocalOptions(fault=fault)).hospitals
    assert len(list(hospitals.ask(ask()))) == 3
    (failure,) = hospitals.failures
    assert (failure.site, failure.code) == ("h003", "client-error")
    assert "MemoryError" in failure.text


@pytest.mark.parametrize("slow", [0, 2])
def test_a_hospital_that_misses_the_deadline_is_named(ward, toy, ask, slow: int) -> None:
    slow_one = toy(seconds={slow: 1.5})
    hospitals = ward(slow_one, count=12, deadline=0.6, options=LocalOptions(workers=2)).hospitals
    start = time.monotonic()
    replies = [reply.site for reply in hospitals.ask(ask())]
    assert time.monotonic() - start < 1.4
    assert replies == [f"h{part:03d}" for part in range(12) if part != slow]
    assert [(failure.site, failure.code) for failure in hospitals.failures] == [(f"h{slow:03d}", "missing")]
    time.sleep(max(0.0, 1.7 - (time.monotonic() - start)))
    assert len(list(hospitals.ask(ask()))) == 11  # still slow; and its late answer to the first round was not taken
    assert len(hospitals.failures) == 2


def test_a_slow_caller_loses_no_reply(ward, ask) -> None:
    hospitals = ward(deadline=0.3, options=LocalOptions(workers=4)).hospitals
    replies = []
    for reply in hospitals.ask(ask()):
        replies.append(reply.site)
        time.sleep(0.35)  # longer than the deadline: what lies ready then still counts
    assert replies == ["h000", "h001", "h002", "h003"]


def test_below_the_quorum_the_run_ends_after_the_usable_replies(ward, toy, ask) -> None:
    twisted = toy(twist=lambda part, content: content if part < 2 else RecordDict())
    enough = ward(twisted, quorum=0.5).hospitals
    assert len(list(enough.ask(ask()))) == 2
    too_few, seen = ward(twisted, quorum=0.75).hospitals, []
    with pytest.raises(
        RunError, match=r"double: 2 of 4 hospitals answered usably, the quorum needs 3; h002: malformed"
    ):
        seen.extend(too_few.ask(ask()))
    assert [reply.site for reply in seen] == ["h000", "h001"]


def test_no_usable_reply_ends_the_run_whatever_the_quorum(ward, toy, ask) -> None:
    hospitals = ward(toy(twist=lambda part, content: RecordDict()), quorum=0.001).hospitals
    with pytest.raises(RunError, match="0 of 4 hospitals answered usably, the quorum needs 1"):
        list(hospitals.ask(ask()))


def test_two_nodes_of_one_name_are_both_refused(ward, toy, ask) -> None:
    hospitals = ward(toy(name=lambda part: "twin" if part in (1, 2) else f"h{part}")).hospitals
    assert list(hospitals.weights) == ["h0", "h3"]
    assert [(failure.site, failure.code) for failure in hospitals.failures] == [("twin", "duplicate-site")] * 2
    assert [reply.site for reply in hospitals.ask(ask())] == ["h0", "h3"]


def test_who_does_not_agree_does_not_join(ward, toy) -> None:
    twisted = toy(join_twist=lambda part, content: about(content, agreement="other settings") if part == 1 else content)
    hospitals = ward(twisted).hospitals
    assert list(hospitals.weights) == ["h000", "h002", "h003"]
    assert [(failure.site, failure.code) for failure in hospitals.failures] == [("node 1001", "agreement")]
    with pytest.raises(RunError, match=r"join: 3 of 4 hospitals .* quorum needs 4; node 1001: agreement: "):
        ward(twisted, quorum=1.0)


def test_asking_before_joining_is_refused(ward, ask) -> None:
    with pytest.raises(RunError, match="call join"):
        list(ward(join=False).hospitals.ask(ask()))


def test_memory_does_not_grow_with_the_hospitals(ward, toy, ask) -> None:
    live: weakref.WeakSet[Message] = weakref.WeakSet()
    arrays: list[weakref.ref[np.ndarray]] = []
    held: list[int] = []

    class Counted(LocalGrid):
        def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
            got = list(super().pull_messages(message_ids))
            live.update(got)
            return got

    # the first hospital is slow: all others answer before its turn
    hospitals = ward(toy(seconds={0: 1.0}), count=200, grid=Counted, options=LocalOptions(workers=2)).hospitals
    sites = []
    validate = exchange.validate

    def counted(message, expect):
        reply = validate(message, expect)
        arrays.append(weakref.ref(reply.arrays["x"]))
        held.append(sum(ref() is not None for ref in arrays))
        return reply

    exchange.validate = counted
    try:
        for reply in hospitals.ask(ask((40, 40))):
            sites.append(reply.site)
            held.append(len(live))
    finally:
        exchange.validate = validate
    assert sites == [f"h{part:03d}" for part in range(200)]
    assert max(held) <= 2 * WINDOW + 4
    assert hospitals.failures == ()


def test_a_caller_that_stops_early_leaves_nothing_behind(ward, ask) -> None:
    found = ward(count=20)
    assert next(found.hospitals.ask(ask())).site == "h000"
    gc.collect()
    assert not found.grid._waiting
    assert not found.grid._started
    assert len(list(found.hospitals.ask(ask()))) == 20


def test_late_nodes_are_waited_for_and_missing_ones_named() -> None:
    from medtl_core.flower.exchange import ExchangeTerms, GridHospitals

    class Empty:
        def __init__(self) -> None:
            self.nodes: list[int] = []

        def get_node_ids(self) -> list[int]:
            return self.nodes

    grid = Empty()
    with pytest.raises(
        RunError, match=r"0 of 2 hospitals connected within 0.1 s, the quorum needs 1; start their SuperN"
    ):
        GridHospitals(grid, ExchangeTerms("", 2, 0.5, 0.1)).join()  # type: ignore[arg-type]
    threading.Timer(0.2, lambda: grid.nodes.extend([8, 7])).start()
    assert GridHospitals(grid, ExchangeTerms("", 2, 0.5, 5.0))._await_nodes() == [7, 8]  # type: ignore[arg-type]
