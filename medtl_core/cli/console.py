"""How commands listen and speak: words in; results to standard output, everything else to standard error."""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

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
Data = Annotated[str | None, typer.Option(metavar="DIR", help="Folder or file of the data.")]
Workers = Annotated[int | None, typer.Option(help="Hospitals that work at the same time.")]
App = Annotated[Path | None, typer.Option("--app", metavar="DIR", help="The Flower app to run, e.g. a checkout.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Show no progress.")]


def group(summary: str | None = None) -> typer.Typer:
    """Returns an empty group of commands."""
    return typer.Typer(
        help=summary, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None
    )


def command(function: Callable[..., None], cls: type[TyperCommand] = TyperCommand) -> typer.Typer:
    """Returns the command that a function is."""
    alone = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    alone.command(cls=cls)(function)
    return alone


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


def console_of(stderr: bool = False, width: int = 100) -> "Console":
    """Returns the console of standard output, or of standard error.

    A pipe has no width; `width` columns keep every row of a table on one line.
    """
    from rich.console import Console

    console = Console(stderr=stderr, highlight=False)
    return console if console.is_terminal else Console(stderr=stderr, highlight=False, width=width)


def say(console: "Console", words: str) -> None:
    """Prints a line as it is: no markup, and no break inside a path."""
    console.print(words, markup=False, soft_wrap=True)


def say_json(value: Any) -> None:
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
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left")
    table.pad_edge, table.show_edge = False, False
    for heading in headings:
        table.add_column(heading, no_wrap=heading == headings[0])
    for heading in right:
        table.add_column(heading, justify="right")
    return table


@contextmanager
def progress_shown(console: "Console", quiet: bool = False) -> Iterator[Listener]:
    """Yields a listener that shows a run's events: bars on a terminal, a line for every seed elsewhere.

    The listener may be called from several threads, and passes over events it does not know.
    """
    if quiet:
        yield lambda event: None
    elif console.is_terminal:
        with _bars(console) as bars:
            yield _Bars(bars)
    else:
        yield lambda event: _say_seed(console, event)


class _Bars:
    """One bar for the seeds, one for the rounds of the phase at work, one for the hospitals of the round."""

    def __init__(self, bars: "Progress") -> None:
        self._bars = bars
        self._seeds = bars.add_task("seeds", total=None)
        self._rounds = bars.add_task("starting", total=None)
        self._sites = bars.add_task("hospitals", total=None, visible=False)

    def __call__(self, event: Event) -> None:
        kind = event.get("kind")
        if kind == "seed":
            self._bars.update(self._seeds, completed=event.get("done", 0), total=event.get("of"))
        elif kind == "phase":
            total, number = event.get("of"), event.get("round") or 0
            self._bars.update(self._rounds, description=_phase_of(event), completed=number, total=total)
        elif kind == "site" and event.get("of"):
            done, total = event.get("done", 0), event["of"]
            self._bars.update(self._sites, completed=done, total=total, visible=True, description=_phase_of(event))


def _bars(console: "Console") -> "Progress":
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        transient=True,
    )


def _say_seed(console: "Console", event: Event) -> None:
    if event.get("kind") == "seed":
        say(console, f"seed {event.get('done', '?')} of {event.get('of', '?')} done")


def _phase_of(event: Event) -> str:
    place = f": {event['site']}" if event.get("kind") == "site" and event.get("site") else ""
    return f"{event.get('phase') or 'hospitals'}{place}"
