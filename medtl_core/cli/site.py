"""The hospital's own commands: `medtl site`."""

from pathlib import Path
from typing import Annotated

import typer

from medtl_core.cli import console, site_check, site_run, site_sent
from medtl_core.errors import PrivacyError
from medtl_core.privacy.identity import IDENTITY, public_identity

site_app = console.group("What concerns one hospital.")
site_app.command("init")(site_run.init)
site_app.command("check")(site_check.check)
site_app.command("run")(site_run.run)
site_app.command("outbound")(site_sent.outbound)
site_app.command("sent")(site_sent.sent)
site_app.command("flow")(site_sent.flow)
site_app.command("status")(site_check.status)
site_app.command("stop")(site_check.stop)


@site_app.command("identity")
def identity(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The hospital's own folder.")],
) -> None:
    """Print the hospital's public key, which the others write into their [peers]; the private one never leaves DIR."""
    if not (folder / IDENTITY).is_file():
        raise PrivacyError(f"{folder} holds no identity key; spell it as it was, or make it with medtl site init")
    typer.echo(public_identity(folder))


COMMANDS = {"site": site_app}
