"""Hospitals behind a Flower grid: join once, then ask; every reply is checked, every absence has a name."""

import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar, final

from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.serverapp import Grid

from medtl_core.errors import RunError
from medtl_core.evaluation.result import FailedReply, RoundTrip
from medtl_core.events import Events
from medtl_core.federation.hospitals import Hospitals, Reply, Request
from medtl_core.flower.delivery import WINDOW, Delivery, ReplyBuffer, Tally, deliver
from medtl_core.flower.records import (
    Expectation,
    Joined,
    RefusedError,
    encode_request,
    pack,
    validate,
    validate_join,
)  # fmt: skip
from medtl_core.privacy.identity import PEERS
from medtl_core.privacy.witnesses import HOSPITAL, Witnesses, as_values

_Answer = TypeVar("_Answer")

#: Seconds between two looks for nodes that are still to connect.
_PAUSE = 0.5

#: More processor seconds than one answer can take; a hospital's word above it is not booked.
_MOST_SECONDS = 1e8

#: Faults that no honest hospital's reply has; who shows one is not asked again in this run.
_UNTRUE = ("range", "step", "untrue")

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

    exchanges: tuple[RoundTrip, ...] = ()
    failures: tuple[FailedReply, ...] = ()

    def __init__(
        self, grid: Grid, terms: ExchangeTerms, events: Events | None = None, witnesses: Witnesses | None = None
    ) -> None:
        self._grid, self._terms, self._events = grid, terms, events or Events()
        self._witnesses = witnesses or Witnesses(None, terms.agreement)
        self._nodes: dict[str, int] = {}
        self._names: dict[int, str] = {}
        self._signed: set[str] = set()
        self._left_out: set[str] = set()
        self.weights: dict[str, int] = {}

    def join(self) -> None:
        """Finds the hospitals, lets each prepare its features, and registers name and number of cases.

        A name is bound to the identity key first heard under it, and refused to every other node. Where it is not bound
        and two nodes claim it, it is refused to both: nothing tells which of them is the hospital. A RunError ends a
        run whose quorum does not join before the deadline.
        """
        tally = Tally("join")
        nodes = self._await_nodes()
        content = encode_request({}, {})
        claims: dict[str, list[tuple[int, Joined]]] = {}
        for delivery in deliver(self._grid, dict.fromkeys(nodes, (content, "query.join")), self._terms.deadline, tally):
            run, node = self._grid.run.run_id, delivery.node
            check = partial(validate_join, agreement=self._terms.agreement, run=run, node=node)
            answer = self._checked(tally, delivery, f"node {node}", check)
            if answer is not None:
                claims.setdefault(answer.site, []).append((node, answer))
                done = sum(map(len, claims.values()))
                self._events.emit("site", phase="join", site=answer.site, done=done, of=len(nodes))
        for site in sorted(claims):
            self._register(tally, site, claims[site])
        self._witnesses.save()
        self._close(tally, len(self._nodes), self._terms.expected)

    def _register(self, tally: Tally, site: str, claims: Sequence[tuple[int, Joined]]) -> None:
        """Gives a name to the one node that may have it, and refuses it to the others."""
        known = self._witnesses.key_of(site)
        rightful = [node for node, answer in claims if known in (None, answer.key)]
        for node, answer in claims:
            if node not in rightful:
                text = f"node {node} joined as {site!r} without the identity key that this name is bound to"
                remedy = f"if the hospital has a new key, a person removes the name from {PEERS} in `state`"
                self._fail(tally, FailedReply(site, "identity", f"{text}; {remedy}"))
            elif len(rightful) > 1:
                text = f"{len(rightful)} nodes joined as {site!r}; give every hospital its own name"
                self._fail(tally, FailedReply(site, "duplicate-site", text))
            else:
                self._nodes[site], self._names[node] = node, site
                self.weights[site] = answer.weight
                if answer.key:
                    self._signed.add(site)
                    self._witnesses.bind(site, answer.key)

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
        """The hospitals that a request is for, by name, with their nodes; none whose earlier reply was untrue."""
        only = self._nodes if request.only is None else request.only
        return {site: node for site, node in self._nodes.items() if site in only and site not in self._left_out}

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
            agreement, node, wanted = self._terms.agreement, delivery.node, request.expected(weight)
            expect = Expectation(site, weight, agreement, wanted, node, run, private, request.check)
            reply = validate(message, expect)
            if reply.witness is not None and reply.witness.ledger == HOSPITAL and site not in self._signed:
                raise RefusedError(
                    "identity", "a hospital's ledger is believed only of who joined with an identity key"
                )
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
            failure = _refusal(site, error)
            if failure.code in _UNTRUE:
                self._left_out.add(site)
            self._fail(tally, failure)
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

    def blame(self, phase: str, failure: FailedReply) -> None:
        """See Hospitals."""
        super().blame(phase, failure)
        self._events.emit("failure", phase=phase, site=failure.site, code=failure.code, text=failure.text)

    def _fail(self, tally: Tally, failure: FailedReply) -> None:
        tally.failed += 1
        self.blame(tally.phase, failure)

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


def _book_cpu(tally: Tally, message: Message) -> None:
    metrics = message.content["metrics"]
    spent = metrics.get("cpu-seconds", 0.0) if isinstance(metrics, MetricRecord) else 0.0
    if isinstance(spent, int | float) and 0 <= spent <= _MOST_SECONDS:  # NaN is not
        tally.cpu += spent


def _refusal(site: str, error: Exception) -> FailedReply:
    """A reply's failure; whatever it makes our own code raise, the run goes on without it."""
    if isinstance(error, RefusedError):
        left_out = "; it is not asked again in this run" if error.code in _UNTRUE else ""
        return FailedReply(site, error.code, f"{error}{left_out}")
    logging.getLogger("medtl").warning("the reply of %s could not be checked", site, exc_info=error)
    return FailedReply(site, "malformed", f"checking the reply raised {type(error).__name__}")
