"""Event files as crashes and strange names leave them."""

import json
from pathlib import Path

import pytest

from medtl_core.events import Events, read_events


@pytest.mark.parametrize("tail", ['{"kind": "b", "at"', '{"site": "Zü', '{"kind": "b"}'])
def test_a_file_goes_on_after_a_torn_line(tmp_path: Path, tail: str) -> None:
    path = tmp_path / "events.jsonl"
    Events(path).emit("a")
    torn = tail.encode()[:-1] if "ü" in tail else tail.encode()  # through the middle of a character
    with path.open("ab") as stream:
        stream.write(torn)
    assert [event["kind"] for event in read_events(path)] == ["a"]
    Events(path).emit("c")
    assert [event["kind"] for event in read_events(path)] == ["a", "c"]


def test_a_name_that_is_no_unicode_does_not_end_the_run(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    Events(path).emit("failure", text="x\udcff.png\n\u2028", big=10**30, bad=float("-inf"))
    (line,) = path.read_text(encoding="utf-8").split("\n")[:-1]
    assert json.loads(line)["text"] == "x\udcff.png\n\u2028"
    assert json.loads(line)["bad"] == "-inf"
