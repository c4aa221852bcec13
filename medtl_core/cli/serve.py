"""`medtl serve`: a page on this machine where a person drops a file and reads what a head says of it."""

import socket
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from medtl_core.cli import console
from medtl_core.cli.predict import heading_of, neighbours_of, read_prevalence
from medtl_core.errors import ConfigError
from medtl_core.predict.output import NOTICE
from medtl_core.predict.predictor import load
from medtl_core.serve.app import LIMIT, Service, application
from medtl_core.serve.guard import hosts_of, is_loopback

#: Requests that may be under way.
_MOST = 16
_MEGABYTE = 1_000_000


def _listening(address: str, port: int) -> socket.socket:
    """A socket that listens.

    Raises:
        ConfigError: the address is none of this machine, or something else listens there.
    """
    try:
        (family, kind, proto, _, place), *_ = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM)
        bound = socket.socket(family, kind, proto)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(place)
    except OSError as error:
        why = error.strerror or "unknown address"
        raise ConfigError(f"cannot listen on {address}, port {port} ({why}); choose another --port") from error
    return bound


def serve(
    head: Annotated[Path, typer.Argument(metavar="HEAD", help="A saved head, in a run's heads folder.")],
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 = any that is free.")] = 8765,
    prevalence: Annotated[
        list[str] | None, typer.Option(metavar="CLASS=SHARE,...", help="How common each class is there.")
    ] = None,
    least: Annotated[float, typer.Option(help="Answer nothing where the likeliest class is less probable.")] = 0.0,
    limit: Annotated[int, typer.Option(min=1, metavar="MB", help="Largest file.")] = LIMIT // _MEGABYTE,
    address: Annotated[str, typer.Option(help="Where to listen; others than loopback need --open-to-network.")] = (
        "127.0.0.1"
    ),
    name: Annotated[list[str] | None, typer.Option(metavar="HOST", help="By which others call this machine.")] = None,
    open_to_network: Annotated[
        bool,
        typer.Option("--open-to-network", help="Whoever reaches the address may ask and read: no password, no TLS."),
    ] = False,
    alike: Annotated[
        str, typer.Option(metavar="DIR", help="Your own labelled cases; the page names the most similar ones.")
    ] = "",
    weights: Annotated[str, typer.Option(metavar="PATH", help="File or folder with the backbone's weights.")] = "",
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
) -> None:
    """Show a page on this machine where a person drops a file and reads what a saved head says of it.

    Files are answered and forgotten; nothing is written but a temporary file that is gone after the answer.
    """
    hosts = hosts_of(address, name or (), opened=open_to_network)
    shares, predictor = read_prevalence(prevalence or ()), load(head, weights=weights, device=device)
    if alike:
        predictor = replace(predictor, neighbours=neighbours_of(predictor, alike))
    service = Service(predictor, heading_of(predictor, shares), shares, least, limit * _MEGABYTE)
    app, bound = application(service, hosts), _listening(address, port)
    from uvicorn import Config, Server

    telling = console.console_of(stderr=True)
    if not is_loopback(address):
        console.say(telling, "warning: whoever reaches this address may ask and read; there is no password and no TLS")
    shown = f"[{address}]" if ":" in address else address
    console.say(telling, f"http://{shown}:{bound.getsockname()[1]}/   Ctrl-C ends it")
    console.say(telling, NOTICE)
    server = Server(Config(app, log_level="warning", access_log=False, server_header=False, limit_concurrency=_MOST))
    with bound, suppress(KeyboardInterrupt):
        server.run(sockets=[bound])


COMMANDS = {"serve": console.command(serve)}
