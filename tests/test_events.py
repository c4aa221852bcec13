import json
import threading
from pathlib import Path

import numpy as np

from medtl_core.events import Events, read_events


def test_events_are_strict_json_lines_in_order(tmp_path: Path) -> None:
    path = tmp_path / "run" / "events.jsonl"
    events = Events(path)
    events.emit("exchange", phase="fit", round=1, loss=float("nan"), counts=np.arange(2), site="Zürich")
    events.emit("failure", site="a")
    first, second = (json.loads(line) for line in path.read_text(encoding="utf-8").splitlines())
    assert first.pop("at") <= second.pop("at")
    assert first == {"kind": "exchange", "phase": "fit", "round": 1, "loss": None, "counts": [0, 1], "site": "Zürich"}
    assert second == {"kind": "failure", "site": "a"}


def test_a_torn_last_line_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    Events(path).emit("a")
    with path.open("a") as stream:
        stream.write('{"kind": "b", "at"')
    assert [event["kind"] for event in read_events(path)] == ["a"]


def test_many_threads_write_whole_lines(tmp_path: Path) -> None:
    path, heard = tmp_path / "events.jsonl", []
    events = Events(path, heard.append)
    threads = [threading.Thread(target=lambda n=n: [events.emit("x", n=n, i=i) for i in range(50)]) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(heard) == 200
    assert sorted((event["n"], event["i"]) for event in read_events(path)) == [
        (n, i) for n in range(4) for i in range(50)
    ]


def test_without_file_or_listener_nothing_happens() -> None:
    Events().emit("x", any=object())
