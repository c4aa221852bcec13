"""`medtl site init` and `medtl site run`: a deployed hospital's folder, and its node."""

import logging
import os
from pathlib import Path
from typing import Annotated

import typer

from medtl_core.cli.app_folder import installed_app
from medtl_core.config import Settings
from medtl_core.data.faults import Faults
from medtl_core.data.names import missing
from medtl_core.data.source import read_cases
from medtl_core.errors import ConfigError
from medtl_core.privacy.hospital import Hospital, Server, initialise, read_hospital
from medtl_core.privacy.hospital_file import HOSPITAL
from medtl_core.privacy.policy import Policy

#: What holds in the processes of a hospital's node: no word to Flower's makers, nothing installed, one numeric thread.
_ENVIRONMENT = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}
_LOOPBACK = "127.0.0.1,localhost,::1"

Folder = Annotated[Path, typer.Argument(metavar="DIR", help="The hospital's own folder.")]


def init(
    folder: Folder,
    name: Annotated[str, typer.Option(help="By which the federation knows the hospital.")],
    data: Annotated[Path, typer.Option(metavar="PATH", help="Folder or file of its cases.")],
    server: Annotated[str, typer.Option(metavar="HOST:PORT", help="Where its node connects to.")] = "",
    certificate: Annotated[Path | None, typer.Option(metavar="FILE", help="The server's root certificate.")] = None,
    key: Annotated[Path | None, typer.Option(metavar="FILE", help="Private key the server knows the node by.")] = None,
    insecure: Annotated[bool, typer.Option("--insecure", help="No TLS; for a server on this machine only.")] = False,
    public_patients: Annotated[
        int, typer.Option(help="How many patients the hospital tells the world it has, at most those it has.")
    ] = 0,
) -> None:
    """Make a hospital's folder: rules with a budget, keys, and the ledger. Nothing is ever written over."""
    certificates = {"certificate": certificate, "key": key}
    where = Server(
        server, insecure=insecure, **{what: str(path.absolute()) for what, path in certificates.items() if path}
    )
    policy = Policy(public_patients=public_patients)
    old = initialise(Hospital(folder, name, str(data.absolute()), server=where, policy=policy))
    hospital = read_hospital(folder)
    for file in old:
        typer.echo(f"taken over: the rules of {file}, which is {file}.old now")
    rules = hospital.policy
    plain = "refuses" if rules.require_private else "takes part in"
    typer.echo(
        f"{folder / HOSPITAL}: {hospital.name} may spend epsilon {rules.max_epsilon:g} at delta {rules.delta:g} on a "
        f"patient, over all runs and for ever, and {plain} runs without privacy; to change that, edit [policy] now"
    )
    if not rules.public_patients:
        typer.echo("it takes part in no private run until [policy] says public_patients, a number it surely has")


def _patients(data: Path) -> int:
    """How many patients a hospital's own data hold to train on, for its own eyes: an upper bound, if rows fail.

    Data that do not say whose each case is have as many patients as cases. Too many cases at fault are refused.
    """
    faults = Faults()
    examples = read_cases(data, None, Settings(data="", data_path=str(data)), faults).examples
    faults.check(str(data), len(examples))
    patient = examples["patient"][examples["split"] != "test"]
    return len({*patient[~missing(patient)].tolist()})


def run(folder: Folder) -> None:
    """Let a hospital take part in runs, with its own installed medtl, until the process is ended."""
    hospital = read_hospital(folder)
    _check_server(hospital.server, hospital.folder / HOSPITAL)
    if hospital.policy.public_patients:  # else it takes part in no private run
        hospital.policy.check_promises(_patients(Path(hospital.data)))
    app = installed_app()
    os.umask(0o077)
    os.environ.update(_ENVIRONMENT, FLWR_HOME=str(hospital.folder / "flower"))
    for variable in ("no_proxy", "NO_PROXY"):  # the node's two processes talk to each other on this machine
        os.environ[variable] = ",".join(filter(None, [os.environ.get(variable), _LOOPBACK]))
    log = logging.getLogger("medtl")
    log.setLevel(logging.INFO)
    log.propagate = False
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    log.addHandler(handler)
    log.info("%s answers %s with the medtl in %s", hospital.name, hospital.server.address, app)
    from medtl_core.flower.node.resident import serve  # Flower reads its environment when it is imported

    serve(hospital, app)


def _check_server(server: Server, path: Path) -> None:
    if not server.address:
        raise ConfigError(f"{path} names no server; write its address, HOST:PORT, into [server]")
    if not server.insecure and not Path(server.certificate or os.devnull).is_file():
        raise ConfigError(f"{path} [server]: certificate must name the file of the server's root certificate (PEM)")
    if server.key and not Path(server.key).is_file():
        raise ConfigError(f"{path} [server]: there is no key {server.key}")
