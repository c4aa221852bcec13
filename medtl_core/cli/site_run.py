"""`medtl site init` and `medtl site run`: a deployed hospital's folder, and its node."""

import logging
import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medtl_core.cli.app_folder import installed_app
from medtl_core.cli.site_check import Folder, Page, beside_loopback, refuse_fatal
from medtl_core.errors import ConfigError
from medtl_core.privacy.hospital import Hospital, Server, initialise, read_hospital
from medtl_core.privacy.hospital_file import HOSPITAL, is_deployed
from medtl_core.privacy.policy import Policy

if TYPE_CHECKING:
    from medtl_core.deploy.membership import Membership

#: What holds in the processes of a hospital's node: no word to Flower's makers, nothing installed, one numeric thread.
_ENVIRONMENT = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}


def init(
    folder: Folder,
    data: Annotated[Path | None, typer.Option(metavar="PATH", help="Folder or file of its cases.")] = None,
    invitation: Annotated[
        Path | None, typer.Option(metavar="FILE", help="From the coordinator: says name, server and certificate.")
    ] = None,
    name: Annotated[str, typer.Option(help="By which the federation knows the hospital.")] = "",
    server: Annotated[str, typer.Option(metavar="HOST:PORT", help="Where its node connects to.")] = "",
    certificate: Annotated[Path | None, typer.Option(metavar="FILE", help="The server's root certificate.")] = None,
    key: Annotated[Path | None, typer.Option(metavar="FILE", help="Private key the server knows the node by.")] = None,
    insecure: Annotated[bool, typer.Option("--insecure", help="No TLS; for a server on this machine only.")] = False,
    public_patients: Annotated[
        int, typer.Option(help="How many patients the hospital tells the world it has, at most those it has.")
    ] = 0,
) -> None:
    """Make a hospital's folder: rules with a budget, keys, and the ledger. Nothing is ever written over.

    With an invitation it enrols, too. A hospital that is invited anew names its folder and the new invitation alone.
    """
    from medtl_core.deploy.invitation import host_port, read_invitation

    certificates = {"certificate": certificate, "key": key}
    where = Server(
        server, insecure=insecure, **{what: str(path.absolute()) for what, path in certificates.items() if path}
    )
    policy = Policy(public_patients=public_patients)
    if invitation is None:
        if server:
            host_port(server)
        _make(folder, name, data, where, policy)
        return
    from medtl_core.deploy.membership import accept, server_of

    invited = read_invitation(invitation)
    if where != Server() or name not in ("", invited.hospital):
        raise ConfigError("the invitation says name, server, certificate and key; leave these options out")
    if invited.expired():
        raise ConfigError(f"the invitation expired on {invited.expires:%Y-%m-%d}; ask the coordinator for a new one")
    if not is_deployed(folder) or data is not None:
        _make(folder, invited.hospital, data, server_of(invited), policy)
    accept(folder, invited, read_hospital(folder))
    typer.echo(f"the root certificate of {invited.federation}, to be compared over the telephone: {invited.sha256}")
    _enrol(folder)


def _make(folder: Path, name: str, data: Path | None, server: Server, policy: Policy) -> None:
    """Makes the folder and says the budget in it."""
    if data is None:
        raise ConfigError("name the folder or file of the hospital's cases: --data PATH")
    old = initialise(Hospital(folder, name, str(data.absolute()), server=server, policy=policy))
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


def _enrol(folder: Path) -> None:
    """Enrols a hospital, if its coordinator can be reached now."""
    from medtl_core.deploy.enrolment import EnrolmentError
    from medtl_core.deploy.membership import PASSING, Membership

    beside_loopback()
    try:
        if membership := Membership.of(read_hospital(folder)):
            membership.enrol()
            typer.echo(f"enrolled with {membership.invitation.federation}; next: medtl site check {folder}")
    except EnrolmentError as error:
        if error.reason not in PASSING:
            raise
        typer.echo(f"not enrolled yet: {error} Both medtl site check {folder} and medtl site run enrol later")


def run(folder: Folder, status: Page = 0) -> None:
    """Let a hospital take part in runs, with its own installed medtl, until the process is ended."""
    from medtl_core.deploy.membership import Membership
    from medtl_core.deploy.page import serve_page
    from medtl_core.deploy.told import tell

    hospital = refuse_fatal(folder, status)
    app = installed_app()
    os.umask(0o077)
    os.environ.update(_ENVIRONMENT, FLWR_HOME=str(hospital.folder / "flower"))
    beside_loopback()
    log = logging.getLogger("medtl")
    log.setLevel(logging.INFO)
    log.propagate = False
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    log.addHandler(handler)
    membership = Membership.of(hospital)
    log.info("%s answers %s with the medtl in %s", hospital.name, hospital.server.address, app)
    from medtl_core.flower.node.resident import serve  # Flower reads its environment when it is imported

    _read_libraries()
    beside = [partial(serve_page, hospital.folder, status)] if status else []
    if membership is None:
        serve(hospital, app, beside=beside)
    else:
        serve(hospital, app, first=partial(_begin, membership), beside=beside, after=partial(tell, membership))


def _begin(membership: "Membership") -> None:
    """Enrols a hospital, and tells the coordinator how it stands."""
    from medtl_core.deploy.told import tell

    membership.wait()
    tell(membership)


def _read_libraries() -> None:
    """Reads what answers need: each is given by a fork of this process, and would read it anew."""
    import scipy.optimize  # noqa: F401

    from medtl_core.federation.registry import all_methods

    all_methods()
