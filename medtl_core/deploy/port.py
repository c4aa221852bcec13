"""The process that answers at both ports of a coordinator: `python -m medtl_core.deploy.port PARENT DIR`."""

import asyncio
import logging
import os
import sys
from functools import partial
from pathlib import Path
from typing import Any

from medtl_core.deploy.coordinator import Coordinator, read_coordinator
from medtl_core.deploy.gateway import Bell, Desk, Gateway
from medtl_core.deploy.overview import Contacts, overview, page
from medtl_core.errors import MedtlError


def serve(coordinator: Coordinator) -> None:
    """Answers hospitals and this machine's own commands until the process is told to end.

    Raises:
        ConfigError: the certificates cannot be used.
    """
    import uvicorn

    from medtl_core.flower.link import superlink
    from medtl_core.flower.link.task import SECRET

    coordinator.certified()
    link = superlink.SuperLink(coordinator.secret)
    headers, bells = (superlink.KEY, superlink.SIGNATURE), (Bell(), Bell())
    gateway = Gateway(link, coordinator.folder, superlink.FLEET_PATHS, headers, bells)
    gateway.register_all()
    pages = partial(_page, coordinator, gateway.contacts)
    desk = Desk(link, superlink.CONTROL_PATHS, (SECRET, coordinator.secret), pages, bells)
    usual: dict[str, Any] = {"access_log": False, "log_level": "warning", "server_header": False, "ws": "none"}
    host, port = coordinator.listen
    tls: dict[str, Any] = {"ssl_certfile": coordinator.place("certificate"), "ssl_keyfile": coordinator.place("key")}
    servers = [
        uvicorn.Server(uvicorn.Config(desk, "127.0.0.1", coordinator.words.local, lifespan="on", **usual)),
        uvicorn.Server(uvicorn.Config(gateway, host, port, lifespan="off", **tls, **usual)),
    ]
    asyncio.run(_all(servers))


async def _all(servers: list[Any]) -> None:
    """Runs servers together: where one ends, all do."""

    async def one(server: Any) -> None:
        try:
            await server.serve()
        finally:
            for other in servers:
                other.should_exit = True

    await asyncio.gather(*map(one, servers))


def _page(coordinator: Coordinator, contacts: Contacts, path: str) -> tuple[str, bytes] | None:
    if path not in ("/", "/status.json"):
        return None
    view = overview(coordinator, contacts)
    return ("application/json", view.as_json()) if path != "/" else ("text/html; charset=utf-8", page(view).encode())


if __name__ == "__main__":
    from medtl_core.flower.node.supernode import end_with

    os.umask(0o077)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    for noisy in ("alembic", "httpx"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    end_with(int(sys.argv[1]))
    try:
        serve(read_coordinator(Path(sys.argv[2])))
    except MedtlError as fault:
        sys.exit(f"error: {fault}")
