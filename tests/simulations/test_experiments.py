"""Runs that are done are not done again, and what a broken one left is removed."""

from pathlib import Path

from simulations.experiments import records, run_once
from tests.manifest import write_table


def test_a_run_is_done_once_and_a_broken_one_is_begun_anew(tmp_path: Path) -> None:
    path, out = write_table(tmp_path / "table.csv", "ab"), tmp_path / "run"
    small = {"data": "", "data-path": str(path), "backbone": "table", "sites": 2, "shots": 6, "methods": "nearest-mean"}
    out.mkdir()
    (out / "events.jsonl").write_text("half a run")
    assert records(out) == {}
    run_once(small, out, "small", workers=1)
    assert list(records(out)) == ["nearest-mean"] and list(records(out)["nearest-mean"]) == [0]
    stamp = (out / "metrics.json").stat().st_mtime_ns
    run_once(small, out, "small", workers=1)
    assert (out / "metrics.json").stat().st_mtime_ns == stamp
    run_once({**small, "shots": 7}, out, "small", workers=1)
    assert (out / "metrics.json").stat().st_mtime_ns != stamp
