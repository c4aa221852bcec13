"""Runs one after the other: resumed, failing, and within a budget; the benchmark's own use is tested with it."""

from pathlib import Path

from medtl_core.config import Settings
from medtl_core.sweep.job_queue import Job, work_through


def jobs_in(folder: Path, *names: str) -> list[Job]:
    return [Job(folder / "a" / "b" / "c" / name, Settings()) for name in names]


def finish(job: Job) -> None:
    job.folder.mkdir(parents=True)
    (job.folder / "metrics.json").write_text("{}")


def test_whatever_a_run_raises_is_named_and_the_others_go_on(tmp_path: Path) -> None:
    told: list[str] = []

    def do(job: Job) -> None:
        if job.folder.name == "two":
            raise ZeroDivisionError("no\ncases")
        finish(job)

    jobs = jobs_in(tmp_path, "one", "two", "three")
    assert work_through(jobs, do, 1.0, told.append) == {"a/b/c/two": "ZeroDivisionError: no cases"}
    assert [job.done for job in jobs] == [True, False, True]
    assert told[1] == "[2/3] a/b/c/two: FAILED: ZeroDivisionError: no cases"
    assert work_through(jobs, finish, 1.0, told.append) == {}
    assert told[-1].startswith("[1/1] a/b/c/two: ")


def test_what_a_broken_run_left_is_gone_before_it_runs_again(tmp_path: Path) -> None:
    (job,) = jobs_in(tmp_path, "one")
    job.folder.mkdir(parents=True)
    (job.folder / "half").write_text("")
    work_through([job], finish, 1.0, lambda text: None)
    assert [path.name for path in job.folder.iterdir()] == ["metrics.json"]


def test_without_time_nothing_runs(tmp_path: Path) -> None:
    told: list[str] = []
    assert work_through(jobs_in(tmp_path, "one", "two"), finish, 0.0, told.append) == {}
    assert told == ["budget spent: 2 of 2 runs are left; run again to go on"]
