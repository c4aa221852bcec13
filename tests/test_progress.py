import io
import threading

import pytest
from rich.console import Console

from medtl_core.cli.console import progress_shown as shown

EVENTS = [
    {"kind": "phase", "phase": "fit", "round": 3, "of": 20, "seed": 0},
    {"kind": "phase", "phase": "[odd]"},
    {"kind": "site", "phase": "join", "site": "a", "done": 3, "of": 10},
    {"kind": "site"},
    {"kind": "seed", "done": 1, "of": 10},
    {"kind": "never heard of", "x": 1},
    {},
]


@pytest.mark.parametrize("terminal", [True, False])
def test_every_event_is_taken(terminal: bool) -> None:
    console = Console(file=io.StringIO(), force_terminal=terminal, width=80)
    with shown(console) as progress:
        for event in EVENTS:
            progress(event)


def test_a_pipe_gets_a_line_a_seed() -> None:
    stream = io.StringIO()
    with shown(Console(file=stream, force_terminal=False)) as progress:
        for event in EVENTS:
            progress(event)
    assert stream.getvalue() == "seed 1 of 10 done\n"


def test_quiet_says_nothing() -> None:
    stream = io.StringIO()
    with shown(Console(file=stream, force_terminal=True), quiet=True) as progress:
        for event in EVENTS:
            progress(event)
    assert stream.getvalue() == ""


def test_bars_name_the_phase_and_the_hospital() -> None:
    stream = io.StringIO()
    with shown(Console(file=stream, force_terminal=True, width=80)) as progress:
        for event in EVENTS[:1] + EVENTS[2:3]:
            progress(event)
    text = stream.getvalue()
    assert "fit" in text and "3/20" in text
    assert "join: a" in text and "3/10" in text


def test_several_threads_may_tell() -> None:
    with shown(Console(file=io.StringIO(), force_terminal=True, width=80)) as progress:
        threads = [threading.Thread(target=lambda: [progress(event) for event in EVENTS]) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
