"""What is shown while a run goes on: bars on a terminal, a line a seed in a pipe, nothing when quiet."""

import io
import threading

import pytest
from rich.console import Console

from medtl_core.cli.console import progress_shown

EVENTS = [
    {"kind": "phase", "phase": "fit", "round": 3, "of": 20, "seed": 0},
    {"kind": "phase", "phase": "[odd]"},
    {"kind": "site", "phase": "join", "site": "a", "done": 3, "of": 10},
    {"kind": "site"},
    {"kind": "seed", "done": 1, "of": 10},
    {"kind": "never heard of", "x": 1},
    {},
]


def shown(events: list[dict[str, object]], terminal: bool, quiet: bool = False) -> str:
    stream = io.StringIO()
    with progress_shown(Console(file=stream, force_terminal=terminal, width=80), quiet=quiet) as progress:
        threads = [threading.Thread(target=progress, args=(event,)) for event in events]  # several may tell
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return stream.getvalue()


@pytest.mark.parametrize(
    ("terminal", "quiet", "text"), [(False, False, "seed 1 of 10 done\n"), (False, True, ""), (True, True, "")]
)
def test_a_pipe_gets_a_line_a_seed_and_quiet_says_nothing(terminal: bool, quiet: bool, text: str) -> None:
    assert shown(EVENTS, terminal, quiet) == text


def test_bars_name_the_phase_and_the_hospital_and_take_every_event() -> None:
    assert shown(EVENTS, terminal=True)
    text = shown([EVENTS[0], EVENTS[2]], terminal=True)
    assert "fit" in text and "3/20" in text
    assert "join: a" in text and "3/10" in text
