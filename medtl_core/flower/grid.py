"""A Flower grid inside this process: the same ServerApp and ClientApp, no Ray, no SuperLink, no waiting."""

import itertools
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from threading import Lock
from typing import Self

from flwr.app import Context, Error, Message, RecordDict, UserConfigValue
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.supercore.run import Run

from medtl_core.events import Listener
from medtl_core.flower import compat
from medtl_core.runtime import quiet

NodeConfig = Mapping[str, UserConfigValue]
#: A test's hook, called with the node id and its message; an exception it returns is what the node's process meets.
Fault = Callable[[int, Message], Exception | None]

_RUN_ID, _SERVER_ID = 1, 1
#: Node of the first hospital; the others follow in order.
FIRST_NODE = 1000
#: A task that takes less is answered in the caller's thread: handing it over would cost more than the task itself.
_QUICK = 0.01
#: So is one that takes less than this, where workers spent more than such a share of it on waiting for each other: many
#: short steps of numpy, each of which lets other threads go on, take longer side by side than one after the other.
_SHORT, _WAITS = 0.25, 0.05
#: Seconds a pull waits for the first running reply that is not quick, so that nobody has to sleep and poll.
_PATIENCE = 0.05


@dataclass(frozen=True)
class LocalOptions:
    """How the in-process grid runs.

    Attributes:
        workers: threads that answer for the hospitals.
        wire: send every message through Flower's real wire format, as deployed.
        listener: for the ServerApp, which finds it on the grid and tells it the run's events.
    """

    workers: int = 1
    wire: bool = False
    fault: Fault | None = None
    listener: Listener | None = None


class LocalGrid(Grid):
    """Answers messages with a ClientApp in worker threads, one message per node at a time.

    A hospital whose task was brief the last time is answered for by the thread that pulls, the others by workers.
    A message starts only when its reply is being pulled, and at most `workers + 2` replies exist that were not: memory
    does not grow with the number of hospitals. Node ids are 1000, 1001, ... in the order of `node_configs`.
    """

    #: Every node there will ever be is there; of other grids, which know no such word, a few may be late.
    settled = True
    #: `pull_messages` waits by itself, until a reply is there; other grids return at once.
    waits = True

    def __init__(
        self,
        client_app: ClientApp,
        node_configs: Sequence[NodeConfig],
        run_config: NodeConfig,
        options: LocalOptions | None = None,
    ) -> None:
        compat.take_identity(_RUN_ID, _SERVER_ID)
        self._options = options or LocalOptions()
        self.listener, self.workers = self._options.listener, self._options.workers
        self._room = self.workers + 2
        shared = dict(run_config)  # one for all: of ten thousand hospitals it would be most of what they take
        self.contexts: dict[int, Context] = {
            node: compat.node_context(_RUN_ID, node, dict(config), shared)
            for node, config in enumerate(node_configs, FIRST_NODE)
        }
        self._app = client_app
        self._run = compat.empty_run(_RUN_ID)
        self._busy = {node: Lock() for node in self.contexts}
        self._numbers = itertools.count(1)
        self._waiting: dict[str, Message] = {}
        self._started: dict[str, Future[Message]] = {}
        self._working: dict[int, Future[Message]] = {}
        self._brief: dict[tuple[str, int], bool] = {}
        self._crowded, self._turn = set[str](), Lock()
        self._abandoned = False
        self._pool = ThreadPoolExecutor(self.workers, thread_name_prefix="hospital")

    def set_run(self, run: Run) -> None:
        """Sets the run record; nothing here depends on it."""
        self._run = run

    @property
    def run(self) -> Run:
        """The run record."""
        return self._run

    def create_message(
        self, content: RecordDict, message_type: str, dst_node_id: int, group_id: str, ttl: float | None = None
    ) -> Message:
        """Returns a new message; kept because Flower's interface still has it."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> Iterable[int]:
        """Returns the ids of all nodes."""
        return list(self.contexts)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Takes messages without starting them and returns their ids."""
        ids = []
        for message in messages:
            message_id = f"local-{next(self._numbers)}"
            self._waiting[message_id] = compat.stamp(message, message_id)
            ids.append(message_id)
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Returns the finished replies among `message_ids`.

        It starts as many of them as fit, and waits a moment when none is finished.
        """
        ids = list(message_ids)
        replies = self._finished(ids)
        room = self._room - len(replies) - len(self._started)
        replies += map(self._answer, itertools.islice(self._taken(ids, brief=True), max(room, 0)))
        self._start(ids)
        if replies:
            return replies
        running = [self._started[message_id] for message_id in ids if message_id in self._started]
        if running:
            # quick ones together: waking up for each costs more than they do
            if not wait(running, timeout=_QUICK).done:
                wait(running, timeout=_PATIENCE, return_when=FIRST_COMPLETED)
        elif ids:
            time.sleep(_PATIENCE / 10)  # all are for hospitals that still work on what was given up
        replies = self._finished(ids)
        self._start(ids)
        return replies

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        """Pushes messages and returns the replies that came within `timeout` seconds."""
        ids = list(self.push_messages(messages))
        end = None if timeout is None else time.monotonic() + timeout
        replies: list[Message] = []
        while len(replies) < len(ids) and (end is None or time.monotonic() < end):
            replies.extend(self.pull_messages(ids))
        self.forget(ids)
        return replies

    def forget(self, message_ids: Iterable[str]) -> None:
        """Drops messages nobody will pull any more; what is running ends unheard."""
        for message_id in message_ids:
            self._waiting.pop(message_id, None)
            future = self._started.pop(message_id, None)
            if future is not None and not future.cancel() and not future.done():
                self._abandoned = True

    def close(self) -> None:
        """Ends the worker threads; waits for them unless a hospital was given up while it worked."""
        self._pool.shutdown(wait=not self._abandoned, cancel_futures=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: object, at: object) -> None:
        self.close()

    def _finished(self, ids: Sequence[str]) -> list[Message]:
        """Takes the replies of workers that are ready."""
        done = [key for key in ids if key in self._started and self._started[key].done()] if self._started else []
        replies = [self._started.pop(key).result() for key in done]
        if self._working:
            self._working = {node: future for node, future in self._working.items() if not future.done()}
        return replies

    def _taken(self, ids: Sequence[str], *, brief: bool) -> Iterator[Message]:
        """Takes messages for hospitals that no worker answers for: those known to be brief, or the others.

        To a hospital that a worker answers for, another message would only block a second thread.
        """
        for message in filter(None, map(self._waiting.get, ids)):
            running = self._working.get(message.metadata.dst_node_id)
            known = self._brief.get(_task_of(message), False)
            if known == brief and (running is None or running.done()):
                yield self._waiting.pop(message.metadata.message_id)

    def _start(self, ids: Sequence[str]) -> None:
        """Hands what is not known to be brief to workers."""
        for message in itertools.islice(self._taken(ids, brief=False), max(self._room - len(self._started), 0)):
            # read before a worker has the message: on the wire it bears another id for a moment
            message_id, node = message.metadata.message_id, message.metadata.dst_node_id
            self._started[message_id] = self._working[node] = self._pool.submit(self._aside, message)

    def _aside(self, message: Message) -> Message:
        """Answers in a worker's thread: first messages of a task that crowds one after the other, if they are brief."""
        if _task_of(message) in self._brief or message.metadata.message_type not in self._crowded:
            return self._answer(message, beside=True)
        turn = self._turn
        while not turn.acquire(timeout=_SHORT):  # nobody waits any longer for the one that has it
            if turn is self._turn:
                self._turn = Lock()
            turn = self._turn
        try:
            return self._answer(message)
        finally:
            turn.release()

    def _answer(self, message: Message, *, beside: bool = False) -> Message:
        start, worked = time.monotonic(), time.thread_time()
        try:
            reply = self._work(message)
        except Exception as error:  # in the form in which flwr-clientapp reports it
            reason = f"{type(error)}:<'{error}'>"
            reply = Message(Error(code=compat.CLIENT_RAISED, reason=reason), reply_to=message)
        seconds, (task, node) = time.monotonic() - start, _task_of(message)
        if beside and time.thread_time() - worked < (1.0 - _WAITS) * seconds:
            self._crowded.add(task)
        self._brief[task, node] = seconds < (_SHORT if task in self._crowded else _QUICK)
        return compat.stamp(reply, f"local-{next(self._numbers)}")

    def _work(self, message: Message) -> Message:
        node, options = message.metadata.dst_node_id, self._options
        with self._busy[node]:  # a SuperNode, too, handles one message at a time
            error = options.fault(node, message) if options.fault else None
            if error is not None:
                raise error
            arrived = compat.round_trip(message) if options.wire else compat.isolate(message)
            reply = self._app(arrived, self.contexts[node])
            return compat.round_trip(reply) if options.wire else reply


def _task_of(message: Message) -> tuple[str, int]:
    return message.metadata.message_type, message.metadata.dst_node_id


def run_local(
    server_app: ServerApp,
    client_app: ClientApp,
    *,
    node_configs: Sequence[NodeConfig],
    run_config: NodeConfig,
    workers: int = 1,
    wire: bool = False,
    fault: Fault | None = None,
    listener: Listener | None = None,
) -> LocalGrid:
    """Runs a ServerApp here over a `LocalGrid`; its exceptions come through. Returns the grid, closed."""
    grid = LocalGrid(client_app, node_configs, run_config, LocalOptions(workers, wire, fault, listener))
    with quiet("flwr", logging.WARNING), grid:
        server_app(grid, compat.node_context(_RUN_ID, _SERVER_ID, {}, dict(run_config)))
    return grid
