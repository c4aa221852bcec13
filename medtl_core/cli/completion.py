"""`medtl completion`: what a shell reads to complete medtl's words."""

from typing import Annotated

import typer

from medtl_core.cli import console
from medtl_core.errors import ConfigError, did_you_mean

SHELLS = ("bash", "zsh", "fish")
_WHERE = {
    "bash": "~/.local/share/bash-completion/completions/medtl",
    "zsh": "a file _medtl in a folder of $fpath",
    "fish": "~/.config/fish/completions/medtl.fish",
}


def completion(
    shell: Annotated[str, typer.Argument(metavar="SHELL", help=f"One of {', '.join(SHELLS)}.")],
) -> None:
    """Print what bash, zsh or fish read to complete medtl's commands and options."""
    from click.shell_completion import get_completion_class

    from medtl_core.cli.app import app

    found = get_completion_class(shell) if shell in SHELLS else None
    if found is None:
        raise ConfigError(f"{shell!r} is no shell that is known here; {did_you_mean(shell, SHELLS)}")
    typer.echo(found(app, {}, "medtl", "_MEDTL_COMPLETE").source())
    console.say(console.console_of(stderr=True), f"belongs into {_WHERE[shell]}")


COMMANDS = {"completion": console.command(completion)}
