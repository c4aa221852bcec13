"""Runs that are done are not done again, and what a broken one left is removed."""

from pathlib import Path

import pytest

from simulations.experiments import records, run_once

SMALL = {"data": "phantom", "sites": 2, "shots": 6, "image-size": 32, "features": "4", "methods": "nearest-mean"}


def test_a_run_is_done_once_and_a_broken_one_is_begun_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "run"
    out.mkdir()
    (out / "events.jsonl").write_text("half a run")
    assert records(out) == {}
    run_once(SMALL, out, "small", workers=1)
    assert list(records(out)) == ["nearest-mean"] and list(records(out)["nearest-mean"]) == [0]
    stamp = (out / "metrics.json").stat().st_mtime_ns
    run_once(SMALL, out, "small", workers=1)
    assert (out / "metrics.json").stat().st_mtime_ns == stamp
    run_once({**SMALL, "shots": 7}, out, "small", workers=1)
    assert (out / "metrics.json").stat().st_mtime_ns != stamp
