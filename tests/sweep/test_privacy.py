"""`medtl sweep privacy`: from cells to the folder's files; resumed, broken, claimed; and once through the real apps."""

import csv
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medtl_core.cli import app as cli
from medtl_core.cli import plan as planning
from medtl_core.cli.app_folder import find_app
from medtl_core.cli.simulate import simulate
from medtl_core.errors import ConfigError, PrivacyError, RunError
from medtl_core.flower.run import Plan
from medtl_core.sweep.cells import Sweep, cells, fewest_patients, job_of
from medtl_core.sweep.claim import claimed
from medtl_core.sweep.job_queue import Job
from medtl_core.sweep.order import Order, read_order
from medtl_core.sweep.privacy import carry_out
from medtl_core.sweep.rows import read_job, spent
from tests.report.test_page import read
from tests.sweep import made_up

APP = find_app(Path(__file__).resolve().parents[2])
SMALL = ("sites=3", "image-size=32", "features=4")


def sweep_in(out: Path, *words: str, epsilons: str = "0.5,4", mechanisms: str = "private-mean,private-sgd") -> Sweep:
    run = planning.Order("quickstart", [*SMALL, *words], seeds=3, workers=1, out=out)
    return read_order(Order(run, epsilons, mechanisms), APP)


def quiet(text: str) -> None:
    del text


def counted(runs: list[str], run: Callable[[Plan], object] = made_up.stored) -> Callable[[Plan], None]:
    def counting(plan: Plan) -> None:
        runs.append("/".join(plan.out.parts[-3:]))
        run(plan)

    return counting


# --- cells


def test_cells_are_every_combination_once_and_the_first_seed_first(tmp_path: Path) -> None:
    sweep = replace(sweep_in(tmp_path / "out"), shots=(10, 20))
    found = list(cells(sweep))
    assert len(set(found)) == len(found) == 3 * 2 * (1 + 2 * 2)
    assert [cell.seed for cell in found] == sorted(cell.seed for cell in found)
    assert len({job_of(sweep, cell).folder for cell in found}) == len(found)


def test_a_cell_says_everything_in_its_settings(tmp_path: Path) -> None:
    sweep = sweep_in(tmp_path / "out", "shots=12")
    jobs = {(job.settings.privacy, job.settings.secure_sum): job.settings for job in jobs_of(sweep)}
    assert jobs["none", False].methods == "discriminant,fedavg-20,local"
    assert jobs["auto", True].methods == "private-mean"
    assert jobs["auto", False].methods == "private-sgd"
    assert 2 <= jobs["auto", True].public_cases <= 12
    given = sweep_in(tmp_path / "out", "public-cases=5")
    assert {job.settings.public_cases for job in jobs_of(given)} == {5}


def jobs_of(sweep: Sweep) -> list[Job]:
    return [job_of(sweep, cell) for cell in cells(sweep)]


def test_the_public_number_is_that_of_the_smallest_hospital(tmp_path: Path) -> None:
    sweep = sweep_in(tmp_path / "out", "shots=12")
    numbers = {fewest_patients(sweep, cell) for cell in cells(sweep)}
    assert max(numbers) <= 12
    with pytest.raises(ConfigError, match=r"has 1 patient\(s\) with shots=1, seed=0; privacy needs two"):
        jobs_of(replace(sweep, shots=(1,)))


def test_settings_that_promise_nothing_stop_it_before_anything_runs(tmp_path: Path) -> None:
    runs: list[str] = []
    with pytest.raises(PrivacyError, match=r"delta=0\.5 promises little"):
        carry_out(sweep_in(tmp_path / "out", "delta=0.5"), counted(runs), 1.0, quiet)
    with pytest.raises(ConfigError, match="needs test=server"):
        carry_out(sweep_in(tmp_path / "out", "test=sites"), counted(runs), 1.0, quiet)
    assert runs == []
    assert not (tmp_path / "out").exists()


# --- the folder


def test_rows_table_and_page_agree(tmp_path: Path) -> None:
    found = carry_out(sweep_in(tmp_path), made_up.stored, 1.0, quiet)
    with (tmp_path / "sweep.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 3 * (3 + 2 * 2)
    private = [row for row in rows if row["epsilon"]]
    assert {(row["sum"], row["method"]) for row in private} == {("secure", "private-mean"), ("open", "private-sgd")}
    for row in private:  # the ledgers account for the whole promise, and for no more
        assert 0.999 * float(row["epsilon"]) < float(row["spent"]) <= float(row["epsilon"])
        assert float(row["delta"]) == 1e-5
    assert {row["sum"] for row in rows if not row["epsilon"]} == {"none"}
    assert rows[0]["worst_site"] == rows[0]["spent"] == ""  # not defined, not zero
    assert found["sentences"] == [
        "private-mean (secure sum): at chance at epsilon 0.5 (its 95% interval is not above 0.333: it cannot be told "
        "from guessing); above chance at epsilon 4.",
        "private-sgd (no secure sum): above chance at every epsilon tried, 0.5 and 4.",
    ]
    assert json.loads((tmp_path / "metrics.json").read_text(encoding="utf-8"))["sentences"] == found["sentences"]
    page = read((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert all(words in page.text for words in found["sentences"])


def test_a_sweep_goes_on_where_it_was_stopped(tmp_path: Path) -> None:
    runs: list[str] = []

    def stopped(plan: Plan) -> None:
        if len(runs) == 4:
            plan.out.mkdir(parents=True)
            (plan.out / "half").write_text("of a run")
            raise KeyboardInterrupt
        made_up.stored(plan)

    with pytest.raises(KeyboardInterrupt):
        carry_out(sweep_in(tmp_path), counted(runs, stopped), 1.0, quiet)
    first = list(runs)
    runs.clear()
    found = carry_out(sweep_in(tmp_path), counted(runs), 1.0, quiet)
    assert runs[0] == first[-1]  # the broken one is done anew, those before it are not
    assert len(runs) == 15 - 3
    assert (found["done"], found["of"], found["failed"]) == (15, 15, {})
    runs.clear()
    carry_out(sweep_in(tmp_path, epsilons="0.5,2,4"), counted(runs), 1.0, quiet)  # another epsilon is more of the same
    assert len(runs) == 3 * 2


def test_a_failed_cell_is_named_and_the_others_go_on(tmp_path: Path) -> None:
    told: list[str] = []
    sweep = replace(sweep_in(tmp_path), shots=(12, 13))
    found = carry_out(sweep, made_up.stored, 1.0, told.append)
    assert len(told) == found["of"] == 2 * 15
    assert (found["done"], len(found["failed"])) == (15, 15)
    name = f"{tmp_path.name}/secure/phantom-13-4/seed-2"
    assert found["failed"][name] == "RunError: only 1 of 5 hospitals answered"
    again = carry_out(sweep, made_up.stored, 0.0, quiet)  # no time: told from what is there
    assert again["failed"] == found["failed"]


def test_where_no_cell_finishes_there_is_no_report(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"no cell of the sweep .* has finished: RunError: only 1 of 5"):
        carry_out(sweep_in(tmp_path, "shots=13"), made_up.stored, 1.0, quiet)
    with pytest.raises(RunError, match="time budget was spent"):
        carry_out(sweep_in(tmp_path / "new"), made_up.stored, 0.0, quiet)
    assert not list(tmp_path.rglob("report.html")) and not list(tmp_path.rglob("sweep.csv"))


@pytest.mark.parametrize(
    ("words", "mechanisms", "difference"),
    [
        (("alpha=0.9",), "private-mean", "alpha: 0.3 there, 0.9 here"),
        ((), "private-mean,private-auto", "mechanisms: private-mean there, private-mean,private-auto here"),
        (("secure-sum=false",), "private-mean", "secure-sum: True there, False here"),
    ],
)
def test_a_folder_holds_one_sweep(tmp_path: Path, words: tuple[str, ...], mechanisms: str, difference: str) -> None:
    carry_out(sweep_in(tmp_path, mechanisms="private-mean"), made_up.stored, 1.0, quiet)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(RunError, match=f"a sweep of other settings .{difference}"):
        carry_out(sweep_in(tmp_path, *words, mechanisms=mechanisms), made_up.stored, 1.0, quiet)
    assert sorted(tmp_path.rglob("*")) == before


def test_folders_of_something_else_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text('{"name": "quickstart"}')
    for place, words in (("file", "is a file"), ("mine", "holds something else"), ("run", "another kind of run")):
        with pytest.raises(RunError, match=words):
            carry_out(sweep_in(tmp_path / place), made_up.stored, 1.0, quiet)
    with pytest.raises(RunError, match="cannot be written"):
        carry_out(sweep_in(tmp_path / "file" / "below"), made_up.stored, 1.0, quiet)


def test_two_sweeps_never_work_in_one_folder(tmp_path: Path) -> None:
    with claimed(sweep_in(tmp_path)), pytest.raises(RunError, match="another sweep is at work"):
        carry_out(sweep_in(tmp_path), made_up.stored, 1.0, quiet)


def test_an_edited_ledger_stops_the_report(tmp_path: Path) -> None:
    carry_out(sweep_in(tmp_path), made_up.stored, 1.0, quiet)
    job = next(job for job in jobs_of(sweep_in(tmp_path)) if job.settings.secure_sum)
    book = next(job.folder.rglob("ledger.jsonl"))
    book.write_text(book.read_text().replace('"noise_multiplier":', '"noise_multiplier":9'))
    with pytest.raises(PrivacyError, match="was changed at line"):
        read_job(job, "phantom")
    with pytest.raises(PrivacyError, match="holds no ledger of private-auto"):
        spent(job.folder, "private-auto", 1e-5)


# --- the command


def called(monkeypatch: pytest.MonkeyPatch, *words: str | Path) -> int:
    monkeypatch.setattr(sys, "argv", ["medtl", "sweep", "privacy", *map(str, words)])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    code = stopped.value.code
    return code if isinstance(code, int) else 0


def test_the_command_says_where_it_is_at_chance(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("medtl_core.cli.sweep.simulate", made_up.stored)
    words = ("quickstart", "--set", "sites=3", "image-size=32", "--epsilons", "1,4", "--mechanisms", "private-mean")
    words = (*words, "--app", str(APP), "--out", str(tmp_path))
    assert called(monkeypatch, *words) == 0
    captured = capsys.readouterr()
    assert "private-mean (secure sum): at chance at epsilon 1" in captured.out
    assert "spent, the most by any hospital's ledger: 1 of 1, 4 of 4 promised" in captured.out
    assert f"report  {tmp_path / 'report.html'}\n" in captured.out
    assert captured.err.count("seed-") == 9
    assert called(monkeypatch, *words, "--json", "--quiet") == 0
    captured = capsys.readouterr()
    assert captured.out == (tmp_path / "metrics.json").read_text(encoding="utf-8")
    assert captured.err == ""
    assert called(monkeypatch, *words, "--shots", "12,13") == 1
    assert "FAILED: " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("--minutes", "-1"), "error: minutes=-1.0 must not be negative"),
        (("--minutes", "nan"), "error: minutes=nan must not be negative"),
        (("--mechanisms", "private-men"), "error: unknown mechanism 'private-men'; did you mean 'private-mean'?\n"),
        (("--data", "nowhere"), "error: there is no folder or file 'nowhere'"),
    ],
)
def test_what_a_user_can_mend_is_one_line(
    words: tuple[str, ...], text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert called(monkeypatch, *words, "--app", str(APP)) == 1
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.startswith(text) and captured.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


# --- the real road


def test_a_sweep_through_the_real_apps(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for number in range(12):
        (tmp_path / "public" / f"class{number % 2}").mkdir(parents=True, exist_ok=True)
        pixels = np.cumsum(rng.integers(0, 12, (40, 40, 3)), axis=number % 2).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / "public" / f"class{number % 2}" / f"{number}.png")
    words = ["shots=12", "bootstrap=5", f"public-images={tmp_path / 'public'}", f"cache={tmp_path / 'cache'}"]
    sweep = sweep_in(tmp_path / "out", *words, epsilons="2", mechanisms="private-mean-8,private-sgd-1")
    sweep = replace(sweep, plan=replace(sweep.plan, seeds=1))
    found = carry_out(sweep, simulate, 1.0, quiet)
    assert (found["done"], found["failed"], found["absent"]) == (3, {}, 0)
    points = {(line["sum"], line["method"]): line["points"] for line in found["lines"]}
    assert set(points) == {
        ("secure", "private-mean-8"), ("open", "private-sgd-1"), ("none", "discriminant"), ("none", "fedavg-20"),
        ("none", "local"),
    }  # fmt: skip
    for name in (("secure", "private-mean-8"), ("open", "private-sgd-1")):
        (point,) = points[name]
        assert 1.99 < point["spent"] <= 2.0
        assert point["balanced_accuracy"]["low"] <= point["balanced_accuracy"]["mean"]
