"""The only module that touches names of Flower which are not its public interface.

Flower's internals were renamed within months before; `tests/flower/test_compat.py` fails loudly on an unknown minor
version or a missing name, so that the change is found here and nowhere else.
"""

import hashlib
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, TypeVar

from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict, UserConfig
from flwr.app.message import make_message
from flwr.common.constant import ErrorCode
from flwr.common.serde import message_from_proto, message_to_proto
from flwr.proto.message_pb2 import Message as WireMessage
from flwr.supercore.inflatable.inflatable_object import (
    UnexpectedObjectContentError,
    get_all_nested_objects,
    no_object_id_recompute,
)
from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents, pull_objects
from flwr.supercore.object_ref import load_app as load_object
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from medtl_core.errors import RunError

if TYPE_CHECKING:
    from flwr.supercore.runtime import RuntimeHttpClient

_Record = TypeVar("_Record", RecordDict, ArrayRecord, MetricRecord, ConfigRecord)

#: What Flower raises over bytes that are no message; a SuperLink that cannot be reached raises other errors.
UNREADABLE = (ValueError, KeyError, TypeError, IndexError, DecodeError, UnexpectedObjectContentError)

#: What flwr-clientapp answers with when a handler raised.
CLIENT_RAISED: int = ErrorCode.CLIENT_APP_RAISED_EXCEPTION
#: What a SuperNode answers with when the process of a ClientApp died.
CLIENT_CRASHED: int = ErrorCode.CLIENT_APP_CRASHED


def load_app(reference: str, folder: Path) -> Any:
    """Returns the app "module:name" of a folder, as Flower loads it: Flower puts the folder on Python's path.

    Raises:
        RunError: the folder has no such module or name, or a module of that name was loaded from elsewhere before.
    """
    module = reference.partition(":")[0]
    package = module.partition(".")[0]
    _refuse_stranger(package, folder)
    try:
        app = load_object(reference, RunError, folder)
        _refuse_stranger(package, folder)  # Python's path may name another folder before this one
        return app
    except ModuleNotFoundError as error:
        if error.name not in (module, package):
            raise
        raise RunError(f"{folder} has no {module.replace('.', '/')}.py; is the app complete?") from error


def _refuse_stranger(package: str, folder: Path) -> None:
    loaded = getattr(sys.modules.get(package), "__file__", None)
    if loaded and not Path(loaded).resolve().is_relative_to(folder.resolve()):
        raise RunError(f"another package named {package!r} was loaded from {Path(loaded).parent}; start in {folder}")


def empty_run(run_id: int) -> Run:
    """Returns the record of a run that no SuperLink knows."""
    return Run.create_empty(run_id=run_id)


def take_identity(run_id: int, node_id: int) -> None:
    """Lets this process make messages: `Message` refuses to exist without a task's identity."""
    TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, run_id, node_id


def node_context(run_id: int, node_id: int, node_config: UserConfig, run_config: UserConfig) -> Context:
    """Returns the context of one node of one run, with empty state; nodes of one process may share the configs."""
    return Context(run_id=run_id, node_id=node_id, node_config=node_config, state=RecordDict(), run_config=run_config)


def stamp(message: Message, message_id: str) -> Message:
    """Gives a message the id that the SuperLink would give it; changes and returns it."""
    message.metadata.__dict__["_message_id"] = message_id
    return message


def filled(record: _Record, entries: Mapping[str, Any]) -> _Record:
    """Fills a new record with entries of which the caller knows that their types are right.

    Flower checks each of them anew, which takes longer for a small message than to check the reply.
    """
    vars(record)["_data"].update(entries)
    return record


def isolate(message: Message) -> Message:
    """Returns the message with records of its own, so that a client that changes a record changes no other's.

    The arrays' bytes are immutable and stay shared.
    """
    if not message.has_content():
        return message
    copies: dict[str, Any] = {}
    for name, record in message.content.items():
        copies[name] = record.copy()
        lists = {key: list(value) for key, value in record.items() if isinstance(value, list)}
        if lists:
            filled(copies[name], lists)
    return make_message(metadata=message.metadata, content=filled(RecordDict(), copies))


def round_trip(message: Message) -> Message:
    """Returns the message as it arrives after Flower's own wire format: deflated to bytes and inflated again."""
    message_id = message.metadata.message_id
    with no_object_id_recompute():
        object_id = message.object_id
        stamp(message, object_id)
        contents = {key: part.deflate() for key, part in get_all_nested_objects(message).items()}
    arrived = inflate_object_from_contents(object_id, contents)
    if not isinstance(arrived, Message):
        raise TypeError(f"the wire gave a {type(arrived).__name__} for a message; Flower's format has changed")
    stamp(message, message_id)
    return stamp(arrived, message_id)


def to_bytes(message: Message) -> bytes:
    """Returns a message as bytes, for another process of this machine."""
    return bytes(message_to_proto(message).SerializeToString())


def from_bytes(content: bytes) -> Message:
    """Returns the message of which `to_bytes` made bytes."""
    return message_from_proto(WireMessage.FromString(content))


def wait_for_parts(seconds: float) -> None:
    """Lets messages be given up some seconds after their parts were asked for; Flower waits two hours for one.

    A hospital whose line breaks while it sends has announced a message that never is complete.
    """
    pull_objects.__kwdefaults__ = {**(pull_objects.__kwdefaults__ or {}), "max_time": seconds}


def run_supernode(arguments: list[str], rest: Callable[[float], None]) -> None:
    """Runs Flower's own SuperNode in this process; `rest` takes the seconds of each pause that it makes."""
    from flwr.supernode import start_client_internal
    from flwr.supernode.cli import flower_supernode

    setattr(start_client_internal, "time", SimpleNamespace(**{**vars(time), "sleep": rest}))  # noqa: B010 - mypy: module
    sys.argv = ["flower-supernode", *arguments]
    flower_supernode()


def task_source(address: str, secret: bytes) -> Callable[[], str]:
    """Returns what asks a SuperNode, started with the same secret, for a task: its token, or "" where there is none.

    It takes tasks of every type, so that none is left to anybody else.
    """
    import flwr.supernode.runtime.run_clientapp  # noqa: F401 - read once: forks of this process have it then
    from flwr.proto.runtime_pb2 import AcquireTaskRequest
    from flwr.supercore.constant import TaskType
    from flwr.supercore.interceptors import SuperExecAuthHttpInterceptor
    from httpx import TransportError

    methods = ("/flwr.proto.Runtime/AcquireTask",)
    client = _runtime(address, SuperExecAuthHttpInterceptor(master_secret=secret, protected_methods=methods))
    request = AcquireTaskRequest(supported_task_types=list(TaskType))

    def next_token() -> str:
        try:
            return str(client.AcquireTask(request).token)
        except TransportError:  # the SuperNode is starting, or it has ended
            return ""

    return next_token


class ClientTask:
    """One message that a SuperNode has for a ClientApp, and the way back; the run's bundle is hashed and dropped.

    Attributes:
        message: to be answered.
        context: of the run, with empty state.
        bundle: SHA-256 of the app bundle that came with the run.
    """

    def __init__(self, address: str, token: str) -> None:
        from flwr.supernode.runtime.run_clientapp import pull_task_input

        self._address, self._token = address, token
        with closing(self._client()) as client:
            self.message, context, _, bundle = pull_task_input(client)
        self.context = node_context(context.run_id, context.node_id, context.node_config, context.run_config)
        self.bundle = hashlib.sha256(bundle.content).hexdigest()

    def answer(self, reply: Message) -> None:
        """Sends the reply, and no state: nothing is kept for the next message."""
        from flwr.common.constant import SubStatus
        from flwr.supernode.runtime.run_clientapp import push_message, push_task_output

        status, why = (SubStatus.FAILED, reply.error.reason) if reply.has_error() else (SubStatus.COMPLETED, "")
        with closing(self._client()) as client:
            push_message(client, reply, self.context)
            push_task_output(client, None, status, why or "")

    @contextmanager
    def alive(self) -> Iterator[None]:
        """Tells the SuperNode meanwhile that the task is still worked on."""
        from flwr.supercore.heartbeat import HeartbeatSender, make_task_heartbeat_fn_http

        with closing(self._client()) as client:
            sender = HeartbeatSender(make_task_heartbeat_fn_http(client))
            sender.start()
            try:
                yield
            finally:
                if sender.is_running:
                    sender.stop()

    def _client(self) -> "RuntimeHttpClient":
        from flwr.supercore.interceptors import RuntimeTokenHttpInterceptor

        return _runtime(self._address, RuntimeTokenHttpInterceptor(self._token))


def _runtime(address: str, *more: Any) -> "RuntimeHttpClient":
    from flwr.supercore.interceptors import RuntimeVersionHttpInterceptor
    from flwr.supercore.runtime import RuntimeHttpClient

    interceptors = [RuntimeVersionHttpInterceptor(component_name="flwr-clientapp"), *more]
    return RuntimeHttpClient.from_server_address(address, True, None, interceptors)
