"""A run of a federation: submitted to the SuperLink of this machine, and its ServerApp run by this very process.

Flower would start the ServerApp in a process of its own, from the bundle that was submitted. Here it is the app of the
installed medtl, in the process of the person who typed the command: what it shows and how it ends is seen at once.
"""

import time
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import tomli_w
from flwr.app import Message, RecordDict
from flwr.cli.build import build_fab_from_files
from flwr.common.constant import SubStatus
from flwr.common.serde import context_from_proto, fab_to_proto, run_from_proto, user_config_to_proto
from flwr.proto.control_pb2 import ListRunsRequest, StartRunRequest, StopRunRequest
from flwr.proto.runtime_pb2 import AcquireTaskRequest, PullTaskInputRequest, PushTaskOutputRequest
from flwr.supercore.constant import TaskType
from flwr.supercore.control import ControlHttpClient
from flwr.supercore.fab import Fab
from flwr.supercore.heartbeat import HeartbeatSender, make_task_heartbeat_fn_http
from flwr.supercore.interceptors import RuntimeVersionHttpInterceptor, SuperExecAuthHttpInterceptor
from flwr.supercore.runtime import RuntimeHttpClient
from flwr.superlink.grid import HttpGrid

from medtl_core.errors import RunError
from medtl_core.events import Listener
from medtl_core.flower import compat
from medtl_core.flower.node.pace import ask_soon_again
from medtl_core.flower.node.single_record import joined, parted

#: Header by which a control call shows that it comes from the coordinator's own folder.
SECRET = "medtl-secret"
_ACQUIRE = "/flwr.proto.Runtime/AcquireTask"
#: Seconds for which a coordinator may be away in mid-run.
_LOST = 40.0
#: Seconds that the SuperLink has to give out the task of a run it has taken.
_PATIENCE = 30.0


@dataclass(frozen=True)
class Link:
    """Where this machine's SuperLink is, and the secret of its folder."""

    address: str
    secret: bytes

    def submit(self, app: Path, config: Mapping[str, Any]) -> int:
        """Submits a run and returns its id; hospitals get the settings and no code.

        Raises:
            RunError: the SuperLink does not take it, or is not there.
        """
        content = bundle(app)
        fab = Fab(sha256(content).hexdigest(), content, {})
        request = StartRunRequest(fab=fab_to_proto(fab), override_config=user_config_to_proto(dict(config)))
        with self._control() as control:
            answer = control.StartRun(request)
        if not answer.HasField("run_id"):
            raise RunError("Flower's SuperLink did not take the run; the coordinator's own log says why")
        return int(answer.run_id)

    def stop(self, run: int) -> None:
        """Ends a run."""
        with self._control() as control:
            control.StopRun(StopRunRequest(run_id=run))

    def status(self, run: int) -> str:
        """Returns how Flower says a run stands, for instance "running" or "finished:failed"."""
        with self._control() as control:
            status = control.ListRuns(ListRunsRequest(run_id=run)).run_dict[run].status
        return ":".join(filter(None, (status.status, status.sub_status)))

    def token(self, run: int) -> str:
        """Returns the token of a run's task.

        Raises:
            RunError: the SuperLink gives none out.
        """
        signed = SuperExecAuthHttpInterceptor(master_secret=self.secret, protected_methods=(_ACQUIRE,))
        version = RuntimeVersionHttpInterceptor(component_name="flwr-serverapp")
        request = AcquireTaskRequest(supported_task_types=[TaskType.SERVER_APP])
        with closing(RuntimeHttpClient.from_server_address(self.address, True, None, [version, signed])) as client:
            end = time.monotonic() + _PATIENCE
            while time.monotonic() < end:
                answer = client.AcquireTask(request)
                if answer.token and answer.task.run_id == run:
                    return str(answer.token)
                time.sleep(0.0 if answer.token else 0.05)  # a task of a run whose process died before it took it
        raise RunError(f"Flower's SuperLink gave out no task for run {run} within {_PATIENCE:g} s")

    @contextmanager
    def _control(self) -> Iterator[ControlHttpClient]:
        version = RuntimeVersionHttpInterceptor(component_name="medtl")
        try:
            with closing(
                ControlHttpClient.from_server_address(self.address, True, None, [version, _Secret(self.secret)])
            ) as client:
                yield client
        except httpx.HTTPError as error:
            raise RunError(
                f"Flower's SuperLink at {self.address} did not answer ({type(error).__name__}); is the coordinator up?"
            ) from error


class _Secret:
    """Shows the folder's secret with every control call."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret.decode()

    def intercept(self, context: Any, call_next: Any) -> Any:
        context.request.headers[SECRET] = self._secret
        return call_next(context)


class FederationGrid(HttpGrid):
    """Flower's grid, limited to the nodes of the hospitals that a run was started with."""

    #: The coordinator's port holds a question for messages until there are some.
    waits = True

    def __init__(self, address: str, token: str, nodes: Iterable[int], listener: Listener | None) -> None:
        super().__init__(address, insecure=True, token=token)
        self._nodes, self._retry_invoker.max_time = frozenset(nodes), _LOST
        self.listener = listener
        ask_soon_again()

    def get_node_ids(self) -> list[int]:
        """Returns the ids of those that are there now."""
        return sorted(self._nodes.intersection(super().get_node_ids()))

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Sends messages, the records of each as one."""
        sent: Iterable[str] = super().push_messages([*map(joined, messages)])
        return sent

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Returns the answers that have come to messages, each with the records that the hospital made."""
        return [*map(parted, super().pull_messages(message_ids))]

    def end(self, heartbeat: HeartbeatSender, status: str, why: str) -> None:
        """Tells the SuperLink, once, how the run's ServerApp ended."""
        self._retry_invoker.max_tries = 1
        if heartbeat.is_running:
            heartbeat.stop()
        with suppress(httpx.HTTPError, KeyboardInterrupt):  # it was stopped, or has given the run up
            self.client.PushTaskOutput(PushTaskOutputRequest(sub_status=status, details=why))

    @property
    def client(self) -> RuntimeHttpClient:
        """What the grid asks the SuperLink with."""
        return self._runtime_client


def run_server_app(
    link: Link, run: int, app: Path, config: Mapping[str, Any], nodes: Iterable[int], listener: Listener | None
) -> None:
    """Runs the ServerApp of an app folder for a run that was submitted, and tells the SuperLink how it ended.

    Args:
        link: the SuperLink.
        run: its id.
        app: folder of the installed app.
        config: the settings, the server's own places among them, which no hospital is sent.
        nodes: of the hospitals that the run is for.
        listener: is told the run's events.

    Raises:
        MedtlError: whatever the app raises.
    """
    server_app = compat.load_app("server.app:app", app)
    with closing(FederationGrid(link.address, link.token(run), nodes, listener)) as grid:
        heartbeat = HeartbeatSender(partial(_alive, make_task_heartbeat_fn_http(grid.client)))
        heartbeat.start()
        status, why = SubStatus.FAILED, "interrupted"
        try:
            given = grid.client.PullTaskInput(PullTaskInputRequest())
            compat.take_identity(given.run.run_id, given.context.node_id)
            context = context_from_proto(given.context)
            context.run_config, context.state = dict(config), RecordDict()
            grid.set_run(run_from_proto(given.run))
            server_app(grid=grid, context=context)
            status, why = SubStatus.COMPLETED, ""
        except (KeyboardInterrupt, httpx.HTTPError) as error:
            raise _told(link, run, error) from error
        except Exception as error:
            why = type(error).__name__
            raise
        finally:
            grid.end(heartbeat, status, why)


def _told(link: Link, run: int, error: BaseException) -> BaseException:
    """What ended a run: the person at this process, or the SuperLink, which Flower's client takes for one."""
    try:
        if link.status(run) == "running":
            return error
    except (RunError, KeyError, ValueError):
        pass
    return RunError(
        "the coordinator went down, or ended the run, in the middle of it; what was released stays spent. Start it and "
        "run the same again: private answers that were given are given again at no cost"
    )


def _alive(tell: Callable[[], bool]) -> bool:
    try:
        return tell()
    except httpx.HTTPError:  # the run's own requests meet the same, and say so
        return False


def bundle(app: Path) -> bytes:
    """Returns what Flower hands to SuperNodes for a run: the names of the settings, and no code that could be run."""
    declared = tomllib.loads((app / "pyproject.toml").read_text(encoding="utf-8"))
    flower = {key: value for key, value in declared["tool"]["flwr"]["app"].items() if key != "fab-include"}
    project = {key: declared["project"][key] for key in ("name", "version", "description", "license")}
    project["dependencies"] = [one for one in declared["project"]["dependencies"] if one.startswith("flwr")]
    text = tomli_w.dumps({"project": project, "tool": {"flwr": {"app": flower}}})
    empty = dict.fromkeys(("server/__init__.py", "server/app.py", "client/__init__.py", "client/app.py"), b"")
    licence = (app / "LICENSE").read_bytes()
    return bytes(build_fab_from_files({"pyproject.toml": text.encode(), "LICENSE": licence, **empty})[0])
