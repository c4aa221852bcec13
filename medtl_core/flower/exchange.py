"""Hospitals behind a Flower grid: join once, then ask; every reply is checked, every absence has a name."""

import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, final

from flwr.app import ArrayRecord, Message, RecordDict
from flwr.serverapp import Grid

from medtl_core.errors import RunError
from medtl_core.events import Events
from medtl_core.flower.records import (
    Expectation,
    RefusedError,
    encode_request,
    pack,
    validate,
    validate_join,
    wire_bytes,
)
from medtl_core.methods.hospitals import Cost, Failure, Hospitals, Reply, Request

#: Seconds between two looks for replies: short at first, then patient with a far SuperLink.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.02, 0.5


@dataclass(frozen=True)
class Terms:
    """What a run asks of its hospitals.

    Attributes:
        agreement: hash every reply must carry.
        expected: how many hospitals the run waits for.
        quorum: share of them that must answer every round.
        deadline: seconds a round may take.
    """

    agreement: str
    expected: int
    quorum: float
    deadline: float

    @property
    def needed(self) -> int:
        """Usable replies a round needs."""
        return max(1, math.ceil(self.quorum * self.expected - 1e-9))


@final
class GridHospitals(Hospitals):
    """The hospitals of one run over any Flower grid: in process, Ray or SuperLink."""

    def __init__(self, grid: Grid, terms: Terms, events: Events) -> None:
        self._grid, self._terms, self._events = grid, terms, events
        self._nodes: dict[str, int] = {}
        self._weights: dict[str, int] = {}
        self._costs: dict[str, Cost] = {}
        self._failures: list[Failure] = []
        #: One row per exchange, for the report.
        self.history: list[dict[str, Any]] = []

    @property
    def weights(self) -> Mapping[str, int]:
        """See Hospitals."""
        return self._weights

    @property
    def costs(self) -> Mapping[str, Cost]:
        """See Hospitals."""
        return self._costs

    @property
    def failures(self) -> tuple[Failure, ...]:
        """See Hospitals."""
        return tuple(self._failures)

    def join(self) -> None:
        """Finds the hospitals, lets each prepare its features, and registers name and number of cases.

        Raises:
            RunError: fewer hospitals than the quorum joined before the deadline.
        """
        exchange = _Exchange(self._grid, self._events, "join", self._terms.deadline)
        nodes = self._await_nodes(exchange.end)
        content = encode_request({}, {})
        found: list[tuple[str, int, int]] = []
        for node, message in exchange.replies(dict.fromkeys(nodes, (content, "query.join"))):
            label = f"node {node}"
            try:
                if message is None:
                    raise RefusedError("missing", "no answer before the deadline")
                site, weight = validate_join(message, self._terms.agreement)
                if any(site == other for other, _, _ in found):
                    raise RefusedError("duplicate", f"another node already joined as {site!r}")
            except RefusedError as refused:
                self._fail(exchange, Failure(label, refused.code, str(refused)))
                continue
            found.append((site, node, weight))
            exchange.took(message, site, len(found), len(nodes))
        for site, node, weight in sorted(found):
            self._nodes[site], self._weights[site] = node, weight
        self._close(exchange, len(found))

    def ask(self, request: Request) -> Iterator[Reply]:
        """See Hospitals."""
        label = request.phase or request.task
        number = request.config.get("round", 1)
        exchange = _Exchange(self._grid, self._events, label, self._terms.deadline, number)
        self._events.emit("phase", phase=label, round=number, of=request.config.get("of", 1))
        shared = encode_request(request.arrays, request.config)
        order = list(self._nodes)  # by name: the order in which replies are handed on, whatever their arrival
        messages = {
            self._nodes[site]: (self._content(shared, request, site), f"train.{request.task}") for site in order
        }
        site_of = {node: site for site, node in self._nodes.items()}
        early: dict[str, Reply | None] = {}
        turn, usable = 0, 0
        for node, message in exchange.replies(messages):
            early[site_of[node]] = self._checked(exchange, request, site_of[node], message)
            while turn < len(order) and order[turn] in early:
                reply = early.pop(order[turn])
                turn += 1
                if reply is not None:
                    usable += 1
                    yield reply
        self._close(exchange, usable)

    def _content(self, shared: RecordDict, request: Request, site: str) -> RecordDict:
        if request.own is None:
            return shared
        arrays = ArrayRecord({**shared.array_records["arrays"], **pack(request.own(site))})
        return RecordDict({"arrays": arrays, "config": shared.config_records["config"]})

    def _checked(self, exchange: "_Exchange", request: Request, site: str, message: Message | None) -> Reply | None:
        try:
            if message is None:
                raise RefusedError("missing", "no answer before the deadline")
            expect = Expectation(site, self._weights[site], self._terms.agreement, request.expect, self._nodes[site])
            reply = validate(message, expect)
        except RefusedError as refused:
            self._fail(exchange, Failure(site, refused.code, str(refused)))
            return None
        exchange.took(message, site, 0, len(self._nodes), reply.metrics.get("cpu-seconds", 0.0))
        return reply

    def _await_nodes(self, end: float) -> list[int]:
        while True:
            nodes = sorted(self._grid.get_node_ids())
            if len(nodes) >= self._terms.expected or (nodes and time.monotonic() >= end):
                return nodes
            if time.monotonic() >= end:
                raise RunError(f"no hospital connected within {self._terms.deadline:g} s; start their SuperNodes")
            time.sleep(_LONGEST_PAUSE)

    def _fail(self, exchange: "_Exchange", failure: Failure) -> None:
        self._failures.append(failure)
        exchange.failed += 1
        self._events.emit("failure", phase=exchange.phase, site=failure.site, code=failure.code, text=failure.text)

    def _close(self, exchange: "_Exchange", usable: int) -> None:
        row = exchange.row(usable)
        self.history.append(row)
        self._costs[exchange.phase] = self._costs.get(exchange.phase, Cost()) + exchange.cost()
        self._events.emit("exchange", **row)
        if usable < self._terms.needed:
            latest = self._failures[-1] if self._failures else None
            why = f"; last failure: {latest.site}: {latest.text}" if latest else ""
            raise RunError(
                f"{exchange.phase}: {usable} of {self._terms.expected} hospitals answered usably, "
                f"the quorum needs {self._terms.needed}{why}"
            )


class _Exchange:
    """One question to many nodes and its bookkeeping."""

    def __init__(self, grid: Grid, events: Events, phase: str, deadline: float, number: object = 1) -> None:
        self._grid, self._events, self.phase, self._number = grid, events, phase, number
        self._start = time.monotonic()
        self.end = self._start + deadline
        self.failed = 0
        self._up = self._down = 0
        self._cpu = 0.0

    def replies(self, messages: Mapping[int, tuple[RecordDict, str]]) -> Iterator[tuple[int, Message | None]]:
        """Sends one message a node and yields (node, reply) as they come; None for those that miss the deadline."""
        sizes: dict[int, int] = {}
        waiting: dict[str, int] = {}
        for node, (content, kind) in messages.items():
            self._down += sizes.setdefault(id(content), wire_bytes(content))
            pushed = list(self._grid.push_messages([Message(content, node, kind)]))
            if not pushed or not pushed[0]:
                yield node, None
                continue
            waiting[pushed[0]] = node
        pause = _FIRST_PAUSE
        while waiting and time.monotonic() < self.end:
            got = list(self._grid.pull_messages(list(waiting)))
            for message in got:
                # Flower answers for a vanished node itself: only the id of the question tells whose answer it is
                asked = message.metadata.reply_to_message_id or ""
                node = waiting.pop(asked, None)
                if node is None:
                    self._events.emit("stray-reply", phase=self.phase)
                    continue
                yield node, message
            if got:
                pause = _FIRST_PAUSE
            elif waiting:
                time.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
        forget = getattr(self._grid, "forget", None)
        if waiting and forget is not None:
            forget(list(waiting))
        for node in waiting.values():
            yield node, None

    def took(self, message: Message, site: str, done: int, of: int, cpu: float = 0.0) -> None:
        """Books a usable reply."""
        self._up += wire_bytes(message.content)
        metrics: Any = message.content["metrics"]
        self._cpu += cpu or float(metrics.get("cpu-seconds", 0.0))
        if done:
            self._events.emit("site", phase=self.phase, site=site, done=done, of=of)

    def cost(self) -> Cost:
        """What the exchange cost."""
        return Cost(self._up, self._down, time.monotonic() - self._start, self._cpu, 1)

    def row(self, usable: int) -> dict[str, Any]:
        """The exchange as one row of the report."""
        return {
            "phase": self.phase, "round": self._number, "seconds": time.monotonic() - self._start, "bytes_up": self._up,
            "bytes_down": self._down, "cpu_seconds": self._cpu, "replies": usable, "failures": self.failed,
        }  # fmt: skip
