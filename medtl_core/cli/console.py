"""How commands listen and speak: words in; results to standard output, everything else to standard error."""

import inspect
import os
import stat
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import click
import typer
from typer.core import TyperArgument, TyperCommand

from medtl_core.errors import RunError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress
    from rich.table import Table

Event = Mapping[str, Any]
Listener = Callable[[Event], None]

# Options that several commands have.
Words = Annotated[
    list[str] | None,
    typer.Argument(metavar="[SCENARIO] [KEY=VALUE]...", help="A scenario's name or TOML file; further settings."),
]
Assignments = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="A setting, e.g. --set shots=90 sites=10.")
]
Data = Annotated[str | None, typer.Option(metavar="DIR", help="Folder or file of the data.")]
Out = Annotated[Path | None, typer.Option(metavar="DIR", help="Run folder; new or empty.")]
Resumable = Annotated[Path | None, typer.Option("--out", metavar="DIR", help="Folder; what is done in it stays.")]
Workers = Annotated[int | None, typer.Option(help="Hospitals that work at the same time.")]
App = Annotated[Path | None, typer.Option("--app", metavar="DIR", help="The Flower app to run, e.g. a checkout.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON and nothing else.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Show no progress.")]


class Command(TyperCommand):
    """A command whose help tells what its arguments are: since click 8.5 that of typer 0.20 leaves it out.

    Typer also marks a bracket for a markup that is not used here.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        told = inspect.signature(inspect.unwrap(self.callback)).parameters if self.callback else {}
        for parameter in self.params:
            stated = getattr(told.get(parameter.name or ""), "annotation", None)
            for about in getattr(stated, "__metadata__", ()):
                if isinstance(parameter, TyperArgument) and not parameter.help:
                    parameter.help = about.help

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Reads the words of a command; an empty one, as a script's unset variable leaves it, is no place."""
        left = super().parse_args(ctx, args)
        for parameter in self.params:
            given = ctx.params.get(parameter.name or "")
            if isinstance(parameter.type, click.Path) and "" in (
                given if isinstance(given, list | tuple) else (given,)
            ):
                raise click.BadParameter("it is empty; write . for this folder", ctx, parameter)
        return left

    def format_arguments(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes nothing: they stand with the options, where typer writes them."""

    def get_help(self, ctx: click.Context) -> str:
        """Returns the page of help."""
        return super().get_help(ctx).replace("\\[", "[")


class _Group(typer.Typer):
    """A group whose commands are of that kind."""

    def command(self, *names: Any, **options: Any) -> Any:
        """Returns what makes a function a command."""
        return super().command(*names, **{"cls": Command, **options})


def group(summary: str) -> typer.Typer:
    """Returns an empty group of commands; it stays one where it has a single command."""
    alone = _typer(no_args_is_help=True, suggest_commands=False)  # click suggests, too
    alone.callback(help=summary)(lambda: None)
    return alone


def command(function: Callable[..., None], cls: type[Command] = Command) -> typer.Typer:
    """Returns the command that a function is."""
    alone = _typer()
    alone.command(cls=cls)(function)
    return alone


def _typer(**options: Any) -> typer.Typer:
    return _Group(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None, **options)


def scenario_and_settings(words: Sequence[str], assignments: Sequence[str]) -> tuple[str | None, list[str]]:
    """Returns the scenario among a command's bare words, if any, and all "key=value" words, those of --set first.

    Raises:
        BadParameter: there are several scenarios.

    Example:
        >>> scenario_and_settings(["dermoscopy", "seeds=3"], ["shots=25"])
        ('dermoscopy', ['shots=25', 'seeds=3'])
    """
    bare = [word for word in words if "=" not in word]
    if len(bare) > 1:
        raise typer.BadParameter(f"one scenario at a time: {' '.join(bare)}", param_hint="SCENARIO")
    return bare[0] if bare else None, [*assignments, *(word for word in words if "=" in word)]


def console_of(stderr: bool = False, width: int = 100, quiet: bool = False) -> "Console":
    """Returns the console of standard output, or of standard error; a quiet one prints nothing.

    A file has no width; `width` columns keep every row of a table on one line. A pipe beside a terminal, as into
    `less`, is as wide as that terminal.
    """
    from rich.console import Console

    console = Console(stderr=stderr, highlight=False, quiet=quiet)
    if not console.is_terminal:
        console.width = (0 if stderr else beside_terminal()) or width
    return console


def beside_terminal() -> int:
    """Returns the columns of the terminal where standard output is a pipe and a person is watching; 0 = no such."""
    try:
        piped = stat.S_ISFIFO(os.fstat(sys.stdout.fileno()).st_mode) and os.isatty(2)
        return os.get_terminal_size(2).columns or 80 if piped else 0
    except (AttributeError, OSError, ValueError):  # a stream without a file, as in notebooks; none, where it was closed
        return 0


def say(console: "Console", words: str) -> None:
    """Prints a line as it is: no markup, and no break inside a path."""
    console.print(words, markup=False, soft_wrap=True)


def show(*parts: "str | Table", width: int = 100, markup: bool = True) -> None:
    """Prints tables, and lines as they are, to standard output; `markup` = whether a table's cells may hold some."""
    console = console_of(width=width)
    for part in parts:
        if isinstance(part, str):
            say(console, part)
        else:
            _fit(part, console, markup)
            console.print(part, markup=markup)


def _fit(table: "Table", console: "Console", markup: bool) -> None:
    """Lets every number and name be whole: a pipe is as wide as the table, on a terminal long cells are folded."""
    from rich.measure import Measurement

    natural = Measurement.get(console, console.options.update(max_width=10_000, markup=markup), table).maximum
    if natural > console.width and not console.is_terminal and not beside_terminal():
        console.width = natural
    elif natural > console.width:
        for column in table.columns:
            column.no_wrap, column.overflow = False, "fold"


def refuse_written(place: Path, option: str = "out") -> None:
    """Refuses to write over a file or folder that a person names, by an option, for something new.

    Raises:
        RunError: it is there already.
    """
    if place.exists():
        raise RunError(f"{place} exists already; choose another name with --{option}")


def show_json(value: Any) -> None:
    """Prints a value as JSON, to standard output."""
    from medtl_core.store import to_json

    sys.stdout.write(to_json(value))


def table_of(*headings: str, title: str | None = None, right: Sequence[str] = ()) -> "Table":
    """Returns an empty table in the commands' one style.

    Args:
        headings: of its columns; the first is never broken into lines.
        title: above it.
        right: headings of further columns, of numbers.
    """
    from medtl_core.report.terminal import terminal_table

    words: dict[str, Mapping[str, Any]] = {heading: {"no_wrap": heading == headings[0]} for heading in headings}
    numbers: dict[str, Mapping[str, Any]] = {heading: {"justify": "right"} for heading in right}
    return terminal_table(words | numbers, (), title=title, title_justify="left")


@contextmanager
def progress_shown(console: "Console", quiet: bool = False) -> Iterator[Listener]:
    """Yields a listener that shows a run's events: bars on a terminal, a line for every seed elsewhere.

    The listener may be called from several threads, and passes over events it does not know.
    """
    if quiet:
        yield lambda event: None
    elif console.is_terminal:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        words = TextColumn("{task.description}", markup=False)
        left = TextColumn("{task.fields[left]}", markup=False)
        columns = (words, BarColumn(bar_width=20), MofNCompleteColumn(), TimeElapsedColumn(), left)
        with Progress(*columns, console=console, transient=True) as bars:
            yield _moving(bars)
    else:
        yield partial(_say_seed, console)


def _moving(bars: "Progress") -> Listener:
    """One bar for the seeds, one for the rounds of the phase at work, one for the hospitals of the round."""
    kinds = ("seed", "phase", "site")
    tasks = {kind: bars.add_task(kind, total=None, visible=kind == "seed", left="") for kind in kinds}

    def move(event: Event) -> None:
        kind, total = event.get("kind", ""), event.get("of")
        if kind in tasks and total:
            words = ": ".join(filter(None, (event.get("phase"), event.get("site")))) or "seeds"
            done = event.get("done") or event.get("round") or 0
            elapsed = bars.tasks[kinds.index(kind)].elapsed or 0.0
            left = f"about {elapsed / done * (total - done):.0f} s left" if 0 < done < total else ""
            bars.update(tasks[kind], completed=done, total=total, description=words, visible=True, left=left)

    return move


def _say_seed(console: "Console", event: Event) -> None:
    if event.get("kind") == "seed":
        say(console, f"seed {event.get('done', '?')} of {event.get('of', '?')} done")
