"""Hospitals behind a Flower grid: join once, then ask; every reply is checked, every absence has a name."""

import logging
import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import TypeVar, final

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.serverapp import Grid

from medtl_core.errors import RunError
from medtl_core.evaluation.result import FailedReply, RoundTrip
from medtl_core.events import Events
from medtl_core.federation.hospitals import Hospitals, Reply, Request
from medtl_core.flower.delivery import WINDOW, Delivery, Tally, deliver
from medtl_core.flower.records import Expectation, RefusedError, encode_request, pack, validate, validate_join
from medtl_core.privacy.witnesses import Witnesses, as_values

_Answer = TypeVar("_Answer")

#: Seconds between two looks for nodes that are still to connect.
_PAUSE = 0.5

#: More processor seconds than one answer can take; a hospital's word above it is not booked.
_MOST_SECONDS = 1e8

_FAULTS: Mapping[str, str] = {
    "not-sent": "Flower did not take the message for this hospital",
    "missing": "no answer before the deadline",
    "duplicate": "answered twice; the first answer counted",
    "foreign": "answered a question that was not asked",
    "unreadable": "its bytes are not a Flower message",
}


@dataclass(frozen=True)
class ExchangeTerms:
    """What a run asks of its hospitals.

    Attributes:
        agreement: hash every reply must carry.
        expected: how many hospitals the run waits for.
        quorum: share that must take part: of those expected when joining, of those joined in every round.
        deadline: seconds a round may take.
    """

    agreement: str
    expected: int
    quorum: float
    deadline: float

    def needed(self, of: int) -> int:
        """Returns how many of `of` hospitals make the quorum, at least one."""
        return max(1, math.ceil(self.quorum * of - 1e-9))


@final
class GridHospitals(Hospitals):
    """The hospitals of one run over any Flower grid: in process, Ray or SuperLink."""

    weights: Mapping[str, int] = MappingProxyType({})
    exchanges: tuple[RoundTrip, ...] = ()
    failures: tuple[FailedReply, ...] = ()

    def __init__(
        self, grid: Grid, terms: ExchangeTerms, events: Events | None = None, witnesses: Witnesses | None = None
    ) -> None:
        self._grid, self._terms, self._events = grid, terms, events or Events()
        self._witnesses = witnesses or Witnesses(None, terms.agreement)
        self._nodes: dict[str, int] = {}
        self._names: dict[int, str] = {}

    def join(self) -> None:
        """Finds the hospitals, lets each prepare its features, and registers name and number of cases.

        A name that two nodes claim is refused to both: nothing tells which of them is the hospital. A RunError ends a
        run whose quorum does not join before the deadline.
        """
        tally = Tally("join")
        nodes = self._await_nodes()
        content = encode_request({}, {})
        check = partial(validate_join, agreement=self._terms.agreement)
        joined: list[tuple[str, int, int]] = []
        for delivery in deliver(self._grid, dict.fromkeys(nodes, (content, "query.join")), self._terms.deadline, tally):
            answer = self._checked(tally, delivery, f"node {delivery.node}", check)
            if answer is not None:
                joined.append((answer[0], delivery.node, answer[1]))
                self._events.emit("site", phase="join", site=answer[0], done=len(joined), of=len(nodes))
        claims = Counter(site for site, _, _ in joined)
        for site, node, weight in sorted(joined):
            if claims[site] > 1:
                text = f"{claims[site]} nodes joined as {site!r}; give every hospital its own site-name"
                self._fail(tally, FailedReply(site, "duplicate-site", text))
            else:
                self._nodes[site], self._names[node] = node, site
                self.weights = {**self.weights, site: weight}
        self._close(tally, len(self._nodes), self._terms.expected)

    def ask(self, request: Request) -> Iterator[Reply]:
        """See Hospitals."""
        if not self._nodes:
            raise RunError(f"{request.task}: no hospital has joined; call join() first")
        number = int(request.config.get("round", 1))
        tally = Tally(request.phase or request.task, number)
        self._events.emit("phase", phase=tally.phase, round=number, of=request.config.get("of", 1))
        usable = 0
        try:
            for reply in self._in_order(request, tally):
                usable += 1
                yield reply
        finally:
            if request.ledger:
                self._witnesses.save()
        self._close(tally, usable, len(self._nodes))

    def _in_order(self, request: Request, tally: Tally) -> Iterator[Reply]:
        """Yields usable replies by name of the hospital, whatever their order of arrival."""
        places = {node: place for place, node in enumerate(self._asked(request).values())}
        buffer, turn = ReplyBuffer(WINDOW), 0
        try:
            for delivery in deliver(self._grid, self._messages(request), self._terms.deadline, tally):
                reply = self._reply(request, tally, delivery)
                if delivery.fault in ("duplicate", "foreign"):
                    continue  # the hospital's own answer came before or is still to come
                buffer.put(places[delivery.node], reply)
                while turn in buffer:
                    ready = buffer.pop(turn)
                    turn += 1
                    if ready is not None:
                        yield ready
        finally:
            buffer.close()

    def _messages(self, request: Request) -> dict[int, tuple[RecordDict, str]]:
        shared, kind = encode_request(request.arrays, request.config), f"train.{request.task}"
        return {node: (self._content(request, site, shared), kind) for site, node in self._asked(request).items()}

    def _asked(self, request: Request) -> dict[str, int]:
        """The hospitals that a request is for, by name, with their nodes."""
        only = self._nodes if request.only is None else request.only
        return {site: node for site, node in self._nodes.items() if site in only}

    def _content(self, request: Request, site: str, shared: RecordDict) -> RecordDict:
        """What one hospital is sent: what all are, its own arrays, and what it last showed of its ledger."""
        witness = self._witnesses.of(site, request.ledger) if request.ledger else None
        if request.own is None and witness is None:
            return shared
        own = pack(request.own(site)) if request.own else {}
        known = {} if witness is None else as_values(witness)
        arrays = ArrayRecord({**shared.array_records["arrays"], **own})
        return RecordDict({"arrays": arrays, "config": ConfigRecord({**shared.config_records["config"], **known})})

    def _reply(self, request: Request, tally: Tally, delivery: Delivery) -> Reply | None:
        site, private = self._names.get(delivery.node, f"node {delivery.node}"), bool(request.ledger)

        def check(message: Message) -> Reply:
            run, weight = self._grid.run.run_id, self.weights[site]
            wanted = request.expected(weight)
            expect = Expectation(site, weight, self._terms.agreement, wanted, delivery.node, run, private)
            reply = validate(message, expect)
            if reply.witness is not None and not self._witnesses.follows(site, request.ledger, reply.witness):
                raise RefusedError("witness", "its ledger stands before a record that it has shown already")
            return reply

        return self._checked(tally, delivery, site, check)

    def _checked(
        self, tally: Tally, delivery: Delivery, site: str, check: Callable[[Message], _Answer]
    ) -> _Answer | None:
        """What a delivery holds, if it is what was expected; else its failure is booked."""
        if delivery.message is None:
            self._fail(tally, FailedReply(site, delivery.fault, _FAULTS[delivery.fault]))
            return None
        try:
            answer = check(delivery.message)
            _book_cpu(tally, delivery.message)
        except Exception as error:
            self._fail(tally, _refusal(site, error))
            return None
        return answer

    def _await_nodes(self) -> list[int]:
        """Waits until as many nodes as expected are there; at the deadline the quorum is enough."""
        terms, settled = self._terms, getattr(self._grid, "settled", False)
        end, needed = time.monotonic() + terms.deadline, terms.needed(terms.expected)
        while len(nodes := sorted(self._grid.get_node_ids())) < terms.expected:
            if settled or time.monotonic() >= end:
                break
            time.sleep(_PAUSE)
        if len(nodes) < needed and not settled:
            raise RunError(
                f"{len(nodes)} of {terms.expected} hospitals connected within {terms.deadline:g} s, the quorum needs "
                f"{needed}; start their SuperNodes or lower `sites`, or raise `deadline`"
            )
        return nodes

    def _fail(self, tally: Tally, failure: FailedReply) -> None:
        self.failures = (*self.failures, failure)
        tally.failed += 1
        self._events.emit("failure", phase=tally.phase, site=failure.site, code=failure.code, text=failure.text)

    def _close(self, tally: Tally, usable: int, of: int) -> None:
        booked = tally.booked(usable)
        self.exchanges = (*self.exchanges, booked)
        self._events.emit("exchange", **vars(booked))
        needed = self._terms.needed(of)
        if usable < needed:
            fresh = self.failures[len(self.failures) - tally.failed :]
            named = sorted(fresh, key=lambda failure: failure.site)[:3]
            why = "".join(f"; {failure.site}: {failure.code}: {failure.text}" for failure in named)
            raise RunError(f"{tally.phase}: {usable} of {of} hospitals answered usably, the quorum needs {needed}{why}")


class ReplyBuffer:
    """Early replies by place: `room` of them in memory, the others on disk, so that a slow hospital costs no memory."""

    def __init__(self, room: int) -> None:
        self._room = room
        self._replies: dict[int, Reply | None] = {}
        self._on_disk: dict[int, tuple[str, ...]] = {}

    def __contains__(self, place: int) -> bool:
        return place in self._replies

    def put(self, place: int, reply: Reply | None) -> None:
        """Keeps a reply, or None for a place whose reply will never come."""
        in_memory = sum(kept is not None for kept in self._replies.values()) - len(self._on_disk)
        if reply is not None and in_memory >= self._room:
            np.savez(self._file(place), *reply.arrays.values())
            self._on_disk[place] = tuple(reply.arrays)
            reply = replace(reply, arrays={})
        self._replies[place] = reply

    def pop(self, place: int) -> Reply | None:
        """Gives a reply back, exactly as it was put."""
        reply, names = self._replies.pop(place), self._on_disk.pop(place, None)
        if reply is None or names is None:
            return reply
        with np.load(self._file(place), allow_pickle=False) as stored:
            arrays = {name: stored[f"arr_{index}"] for index, name in enumerate(names)}
        self._file(place).unlink()
        return replace(reply, arrays=arrays)

    def close(self) -> None:
        """Removes what was never taken."""
        if "_folder" in vars(self):
            self._folder.cleanup()

    @cached_property
    def _folder(self) -> "TemporaryDirectory[str]":
        return TemporaryDirectory(prefix="medtl-replies-")

    def _file(self, place: int) -> Path:
        return Path(self._folder.name) / f"{place}.npz"


def _book_cpu(tally: Tally, message: Message) -> None:
    metrics = message.content["metrics"]
    spent = metrics.get("cpu-seconds", 0.0) if isinstance(metrics, MetricRecord) else 0.0
    if isinstance(spent, int | float) and 0 <= spent <= _MOST_SECONDS:  # NaN is not
        tally.cpu += spent


def _refusal(site: str, error: Exception) -> FailedReply:
    """A reply's failure; whatever it makes our own code raise, the run goes on without it."""
    if isinstance(error, RefusedError):
        return FailedReply(site, error.code, str(error))
    logging.getLogger("medtl").warning("the reply of %s could not be checked", site, exc_info=error)
    return FailedReply(site, "malformed", f"checking the reply raised {type(error).__name__}")
