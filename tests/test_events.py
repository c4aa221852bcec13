"""Event files: strict JSON lines, whole from many threads, and read after crashes and strange names."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medtl_core.events import Events


def test_events_are_strict_json_lines_in_order(tmp_path: Path) -> None:
    path = tmp_path / "run" / "events.jsonl"
    events = Events(path)
    events.emit("exchange", phase="fit", round=1, loss=float("nan"), counts=np.arange(2), site="Zürich")
    # a name that is no Unicode does not end the run
    events.emit("failure", text="x\udcff.png\n\u2028", bad=float("-inf"))
    first, second = (json.loads(line) for line in path.read_text(encoding="utf-8").split("\n")[:-1])
    assert first.pop("at") <= second.pop("at")
    assert first == {"kind": "exchange", "phase": "fit", "round": 1, "loss": None, "counts": [0, 1], "site": "Zürich"}
    assert second == {"kind": "failure", "text": "x\udcff.png\n\u2028", "bad": "-inf"}
    Events().emit("x", any=object())  # without file or listener nothing happens


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("tail", [b'{"kind": "b", "at"', '{"site": "Zü'.encode()[:-1], b'{"kind": "b"}'])
def test_a_file_goes_on_after_a_torn_line(tmp_path: Path, tail: bytes) -> None:
    path = tmp_path / "events.jsonl"
    Events(path).emit("a")
    path.write_bytes(path.read_bytes() + tail)
    Events(path).emit("c")
    assert [event["kind"] for event in read(path)] == ["a", "c"]


def test_many_threads_write_whole_lines(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    heard: list[Any] = []
    events = Events(path, heard.append)
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda n: [events.emit("x", n=n, i=i) for i in range(50)], range(4)))
    assert len(heard) == 200
    lines = sorted((event["n"], event["i"]) for event in read(path))
    assert lines == [(n, i) for n in range(4) for i in range(50)]
