"""How a run shows on the terminal while it goes on; always on standard error."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

Event = Mapping[str, Any]
Listener = Callable[[Event], None]


@contextmanager
def shown(console: "Console", quiet: bool = False) -> Iterator[Listener]:
    """Yields a listener that shows a run's events: bars on a terminal, a line for every seed elsewhere.

    The listener may be called from several threads, and passes over events it does not know.
    """
    if quiet:
        yield _silent
    elif console.is_terminal:
        with _bars(console) as bars:
            yield _Bars(bars)
    else:
        yield _lines(console)


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
            self._bars.update(self._rounds, description=_words(event), completed=number, total=total)
        elif kind == "site" and event.get("of"):
            self._bars.update(
                self._sites, completed=event.get("done", 0), total=event["of"], visible=True, description=_words(event)
            )


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


def _lines(console: "Console") -> Listener:
    def listen(event: Event) -> None:
        if event.get("kind") == "seed":
            console.print(
                f"seed {event.get('done', '?')} of {event.get('of', '?')} done", markup=False, highlight=False
            )

    return listen


def _silent(event: Event) -> None:
    del event


def _words(event: Event) -> str:
    place = f": {event['site']}" if event.get("kind") == "site" and event.get("site") else ""
    return f"{event.get('phase') or 'hospitals'}{place}"
