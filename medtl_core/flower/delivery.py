"""The post office: one message to each of many nodes, and their answers as they come, until the deadline."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from flwr.app import Message, RecordDict
from flwr.serverapp import Grid

from medtl_core.evaluation.result import RoundTrip
from medtl_core.federation.hospitals import Reply
from medtl_core.fingerprint import PROTOCOL_MARK
from medtl_core.flower import compat
from medtl_core.flower.records import wire_bytes

#: Replies pulled at once; with the shelf's room this bounds how many the server holds.
WINDOW = 8
#: Seconds between two looks for replies: short at first, then patient with a far SuperLink.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.02, 0.5
#: Seconds a message stays valid after the deadline: clocks of hospitals differ, and stale work must end some day.
_GRACE = 600.0


@dataclass(frozen=True)
class Delivery:
    """What came, or did not come, from a node: a message, or why there is none to use.

    Attributes:
        fault: "" or "not-sent", "missing", "duplicate", "foreign", "unreadable".
    """

    node: int
    message: Message | None
    fault: str = ""


@dataclass
class Tally:
    """What one exchange cost, counted while it goes on: a phase, and the number of the round within it."""

    phase: str
    number: int = 1
    start: float = field(default_factory=time.monotonic)
    last: float = 0.0
    up: int = 0
    down: int = 0
    cpu: float = 0.0
    failed: int = 0

    def booked(self, replies: int) -> RoundTrip:
        """The tally as it is reported; it lasted to the last reply, or to the deadline when one is missing."""
        seconds = max(self.last - self.start, 0.0)
        return RoundTrip(self.phase, self.number, seconds, self.up, self.down, self.cpu, replies, self.failed)


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


def deliver(
    grid: Grid, messages: Mapping[int, tuple[RecordDict, str]], deadline: float, tally: Tally
) -> Iterator[Delivery]:
    """Sends (content, message type) to each node and yields each node's answer once, and every fault.

    Answers are wanted in the order of the messages; those later than the deadline, in seconds from now, are not heard.
    """
    end = time.monotonic() + deadline
    waiting, unsent = _send(grid, messages, deadline, tally)
    yield from (Delivery(node, None, "not-sent") for node in unsent)
    try:
        yield from _awaited(grid, waiting, end, tally)
        if waiting:
            tally.last = time.monotonic()
        yield from (Delivery(node, None, "missing") for node in waiting.values())
    finally:
        tally.last = tally.last or time.monotonic()
        # a SuperLink has no such word: it forgets by itself when a message's time to live has passed
        if hasattr(grid, "forget"):
            grid.forget(waiting)


def _awaited(grid: Grid, waiting: dict[str, int], end: float, tally: Tally) -> Iterator[Delivery]:
    """Yields what comes until nothing is awaited or time is up; what has come is taken out of `waiting`."""
    answered: dict[str, int] = {}
    pause = _FIRST_PAUSE
    while waiting:
        left = end - time.monotonic()
        late = left <= 0  # one last look: answers may lie ready while the caller was busy
        compat.wait_for_parts(max(left, 0.0))
        came = False
        ids = list(waiting)
        for first in range(0, len(ids), WINDOW):
            for delivery in _pull(grid, ids[first : first + WINDOW], waiting, answered, tally):
                came = True
                yield delivery
            if came and not late:
                break  # earlier nodes first: their answers are wanted first
        if late:
            return
        if not came and not getattr(grid, "waits", False):
            time.sleep(max(0.0, min(pause, end - time.monotonic())))
        pause = _FIRST_PAUSE if came else min(2 * pause, _LONGEST_PAUSE)


def _send(
    grid: Grid, messages: Mapping[int, tuple[RecordDict, str]], deadline: float, tally: Tally
) -> tuple[dict[str, int], list[int]]:
    different = {id(content): content for content, _ in messages.values()}
    sizes = {key: wire_bytes(content) for key, content in different.items()}
    tally.down += sum(sizes[id(content)] for content, _ in messages.values())
    ready = [
        Message(content, node, kind, ttl=deadline + _GRACE, group_id=PROTOCOL_MARK)
        for node, (content, kind) in messages.items()
    ]
    ids: list[Any] = list(grid.push_messages(ready))  # at once: Flower uploads an array that all share only once
    if len(ids) != len(ready):  # Flower's answer to "payload too large"
        ids = [next(iter(grid.push_messages([message])), None) for message in ready]
    sent = list(zip(messages, ids, strict=True))
    return {key: node for node, key in sent if key}, [node for node, key in sent if not key]


def _pull(
    grid: Grid, ids: list[str], waiting: dict[str, int], answered: dict[str, int], tally: Tally
) -> Iterator[Delivery]:
    try:
        replies = list(grid.pull_messages(ids))
    except compat.UNREADABLE:
        if len(ids) > 1:  # one hospital's broken bytes must not cost the others their say
            for key in ids:
                yield from _pull(grid, [key], waiting, answered, tally)
        else:
            answered[ids[0]] = waiting.pop(ids[0])
            yield Delivery(answered[ids[0]], None, "unreadable")
        return
    for message in replies:
        tally.last = time.monotonic()
        if message.has_content():
            tally.up += wire_bytes(message.content)
        # Flower itself answers for a vanished node: only the id of the question tells whose answer it is
        key = message.metadata.reply_to_message_id
        if key in waiting:
            answered[key] = waiting.pop(key)
            yield Delivery(answered[key], message)
        elif key in answered:
            yield Delivery(answered[key], None, "duplicate")
        else:
            yield Delivery(message.metadata.src_node_id, None, "foreign")
