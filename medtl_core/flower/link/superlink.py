"""Flower's SuperLink as an ASGI app of this process, with node authentication on; it opens no port by itself."""

from typing import Any

from flwr.common.constant import HEARTBEAT_DEFAULT_INTERVAL, NOOP_ACCOUNT_NAME, NOOP_FLWR_AID
from flwr.common.constant import TRANSPORT_TYPE_GRPC_RERE as FLEET
from flwr.supercore.constant import FLEET_HTTP_PUBLIC_KEY_HEADER, FLEET_HTTP_SIGNATURE_HEADER, FLWR_IN_MEMORY_DB_NAME
from flwr.supercore.routers.runtime.tracing import RuntimeTracingMiddleware
from flwr.superlink.auth_plugin import NoOpControlAuthnPlugin
from flwr.superlink.cli.flower_superlink import SuperLinkLifespan
from flwr.superlink.config_loader import SuperLinkLifespanConfig
from flwr.superlink.main import create_app
from flwr.superlink.routers.control import middlewares as control
from flwr.superlink.routers.fleet.middlewares import FleetEventLogMiddleware
from starlette.middleware import Middleware

from medtl_core.flower.node.pace import give_up_soon

#: Headers of a SuperNode's requests: its public key (PEM in base64), and the signature of the time.
KEY, SIGNATURE = FLEET_HTTP_PUBLIC_KEY_HEADER, FLEET_HTTP_SIGNATURE_HEADER
#: Where SuperNodes ask.
FLEET_PATHS = "/v1/fleet/"
#: Where a process of this machine submits, lists and stops runs.
CONTROL_PATHS = "/v1/control/"
#: Flower's layers for control calls, through which it leads every other request too; and those that do nothing where
#: there is no event log and no tracing. They are most of the time that a small request takes.
_OF_CONTROL: tuple[Any, ...] = (
    control.ControlSensitiveResponseMiddleware, control.ControlAuthenticationMiddleware,
    control.ControlLicenseMiddleware, control.ControlEventLogMiddleware,
)  # fmt: skip
_IDLE: tuple[Any, ...] = (RuntimeTracingMiddleware, FleetEventLogMiddleware)


class SuperLink:
    """The SuperLink of a federation, with its records in memory.

    What hospitals send never lies on the coordinator's disk, and an exchange takes half the time that it takes through
    Flower's database. Who may connect is told anew at every start; a run does not outlive the process.

    Attributes:
        app: ASGI app that answers hospitals, this machine's own ServerApp, and control calls alike: whoever opens a
            port for it must tell them apart.
    """

    def __init__(self, secret: bytes) -> None:
        """Begins with empty records; who knows the secret may run a ServerApp."""
        config = SuperLinkLifespanConfig(
            control_address="", health_server_address=None, host="127.0.0.1", port=0, insecure=True, certificates=None,
            superexec_auth_secret=secret, authn_plugin=NoOpControlAuthnPlugin(), event_log_plugin=None,
            fleet_event_log_plugin=None, enable_event_log=False, artifact_provider=None, enable_supernode_auth=True,
            fleet_api_type=FLEET, fleet_api_address=None, simulation=False, ssl_ca_certfile=None, ssl_certfile=None,
            ssl_keyfile=None, database=FLWR_IN_MEMORY_DB_NAME, isolation="process", runtime_dependency_install=False,
        )  # fmt: skip
        give_up_soon()
        self.app: Any = create_app(config, SuperLinkLifespan)
        self.app.user_middleware = [
            Middleware(_AtControl, layer.cls) if layer.cls in _OF_CONTROL else layer
            for layer in self.app.user_middleware
            if layer.cls not in _IDLE
        ]

    def register(self, key: str, name: str) -> int:
        """Lets the holder of a public key (PEM) connect, and returns its node's id; repeating it changes nothing."""
        state, public = self._state(), key.encode()
        known = state.get_node_id_by_public_key(public)
        if known is None:
            known = state.create_node(NOOP_FLWR_AID, NOOP_ACCOUNT_NAME, public, HEARTBEAT_DEFAULT_INTERVAL, name=name)
        return int(known)

    def _state(self) -> Any:
        return self.app.state.linkstate_factory.state()


class _AtControl:
    """A layer of the app that control calls alone pass."""

    def __init__(self, app: Any, layer: Any) -> None:
        self._app, self._layer = app, layer(app)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        at_control = scope["type"] == "http" and scope["path"].startswith(CONTROL_PATHS)
        await (self._layer if at_control else self._app)(scope, receive, send)
