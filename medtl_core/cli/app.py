"""The command line `medtl`: one module a command, read only when the command is called.

Results go to standard output, everything else to standard error.
"""

import gc
import importlib
import io
import signal
import sys
import threading
from collections.abc import Mapping

import click

from medtl_core import __version__
from medtl_core.errors import MedtlError

#: Objects made between two looks for circles of garbage. With Python's 700 all modules are looked at again and again
#: while they are read: a fifth of what importing torch takes.
_BETWEEN_LOOKS = 20_000
#: Every command: its module, and its line in the list of commands.
COMMANDS: Mapping[str, tuple[str, str]] = {
    "simulate": ("simulate", "Simulate hospitals that train together, on this machine."),
    "backbones": ("backbones", "List pretrained backbones; fetch, pack and unpack weights before a run."),
    "methods": ("lists", "List the methods that `methods=...` can name."),
    "settings": ("lists", "List the settings, each with its usual value and what it means."),
    "scenarios": ("lists", "List the scenarios that `medtl simulate NAME` runs, each with what it is and sets."),
    "select": ("select", "Order backbones and their layers by how well they suit the hospitals' task, from sums only."),
    "adapt": (
        "adapt",
        "Give a new hospital its own head in seconds, on its own machine, even with classes nobody has seen.",
    ),
    "predict": (
        "predict",
        "Let a saved head answer new cases, on this machine; a case that cannot be read costs that case only.",
    ),
    "serve": (
        "serve",
        "Show a page on this machine where a person drops a file and reads what a saved head says of it.",
    ),
    "export": ("export", "Write a saved head with its network for other programs: ONNX, torch.export or safetensors."),
    "card": ("export", "Write the model card of a run: what it knows filled in, what it cannot know as named blanks."),
    "audit": (
        "audit",
        "Attack what one hospital would send, with and without privacy; a false claim gives exit code 1.",
    ),
    "report": ("report", "Write a run's report anew, or a page that one hospital can print for itself."),
    "track": ("track", "Write a finished run's figures for TensorBoard or MLflow."),
    "compare": ("compare", "Lay runs side by side: the same figures, paired where the same cases were judged."),
    "app": ("app_folder", "Write the Flower app out, for `flwr run` and a deployment."),
    "data": ("data", "Look at data before they are used."),
    "features": (
        "features",
        "Compute the features of all cases and keep them: a run on this cache opens no network and needs no GPU.",
    ),
    "encode": ("encode", "Fit an encoder of records at one site, for others to carry."),
    "ledger": ("ledger", "The privacy ledger of a hospital: what was spent on its patients."),
    "site": ("site", "What concerns one hospital."),
    "coordinator": ("coordinator", "A federation of hospitals: invite them, open the port, run, see how it stands."),
    "completion": ("completion", "Print what bash, zsh or fish read to complete medtl's commands and options."),
    "sweep": ("sweep", "Many runs as one experiment that goes on where it stopped."),
}


class _Commands(click.Group):
    """A group that reads a command's module when the command is called: its libraries are heavy."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Returns the names in the order in which they are shown."""
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Returns a command, or None where there is none of that name."""
        del ctx
        if cmd_name not in COMMANDS:
            return None
        import typer

        module = importlib.import_module(f"medtl_core.cli.{COMMANDS[cmd_name][0]}")
        return typer.main.get_command(module.COMMANDS[cmd_name])

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the list of commands from their lines above, without reading one."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


@click.group(
    cls=_Commands,
    commands={name: click.Command(name) for name in COMMANDS},  # what a slip may have meant; none of them is run
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="medtl", message="%(prog)s %(version)s")
def app() -> None:
    """Federated few-shot transfer learning for hospitals that may not share a case."""


def main() -> None:
    """Runs the command line; an error a user can mend is one line on standard error and exit code 1."""
    gc.set_threshold(_BETWEEN_LOOKS)
    if threading.current_thread() is threading.main_thread():  # who is told to end marks what it had begun
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a sign that a terminal has no place for is no error
            stream.reconfigure(errors="replace")
    try:
        code = app.main(prog_name="medtl", standalone_mode=False)
    except MedtlError as error:
        click.echo(f"error: {' '.join(str(error).split())}", err=True)
        raise SystemExit(1) from None
    except MemoryError:
        click.echo("error: this machine's memory is too small for that: lower image-size, sites or --workers", err=True)
        raise SystemExit(1) from None
    except OSError as error:
        place = f" {error.filename}" if error.filename else ""
        click.echo(f"error: a file{place} cannot be read or written: {error.strerror or error}", err=True)
        raise SystemExit(1) from None
    except UnicodeError:
        click.echo("error: a name has letters that this system's locale cannot write: set PYTHONUTF8=1", err=True)
        raise SystemExit(1) from None
    except click.ClickException as error:
        error.show()
        raise SystemExit(error.exit_code) from None
    except click.Abort:
        click.echo(
            "interrupted: a run that had begun is marked as failed in its folder, begun answers end in .partial",
            err=True,
        )
        raise SystemExit(130) from None  # as shells report a command that was interrupted
    raise SystemExit(code or 0)


if __name__ == "__main__":
    main()
