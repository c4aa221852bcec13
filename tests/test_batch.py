"""Runs one after the other; what is done and what fails is tested with the sweep, whose runs they are."""

from pathlib import Path

from medtl_core.config import Settings
from medtl_core.sweep.job_queue import Job, work_through


def test_what_a_broken_run_left_is_gone_before_it_runs_again(tmp_path: Path) -> None:
    job = Job(tmp_path / "one", Settings())
    job.folder.mkdir()
    (job.folder / "half").write_text("")

    def do(job: Job) -> None:
        job.folder.mkdir()
        (job.folder / "metrics.json").write_text("{}")

    assert work_through([job], do, 1.0, lambda text: None) == {}
    assert [path.name for path in job.folder.iterdir()] == ["metrics.json"]
