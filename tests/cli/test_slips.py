"""Slips of a person at the command line: one clear error before any work, and nothing lost."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cli.conftest import Call
from tests.manifest import write_table

NUMBER = "privacy needs a public number of patients at every hospital: set public-cases=N (or shots), 2 or more"
DIVERGED = (
    "a: error: DivergedError: the site's training diverged and it sits this round out; lower tune-rate, or "
    "learning-rate of a head"
)


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_table(tmp_path_factory.mktemp("slips") / "table.csv", "abc", 30)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("privacy=auto", "shots=0"), NUMBER),
        (("privacy=auto", "public-cases=1"), NUMBER),
        (
            ("privacy=yes", "public-cases=9"),
            "privacy=yes is neither none nor auto, and no mechanism is called 'private-yes'; did you mean",
        ),
        (
            ("privacy=private-mean", "methods=private-auto", "public-cases=9"),
            "privacy=private-mean is none of the methods named; set privacy=auto, or name it alone",
        ),
        (("methods=RIDGE",), "unknown method 'RIDGE'; did you mean 'ridge'?"),
        (("bootstrap=100001",), "bootstrap=100001 fills the memory for no digit more; at most 100000"),
    ],
)
def test_a_setting_that_cannot_be_meant_stops_a_run_before_a_hospital_is_asked(
    call: Call, table: Path, tmp_path: Path, words: tuple[str, ...], said: str
) -> None:
    code, shown = call("simulate", "--data", table, "--out", tmp_path / "run", "--set", *words)
    assert (code, "Traceback" in shown, (tmp_path / "run").exists()) == (1, False, False)
    assert shown.splitlines()[-1].startswith(f"error: {said}")


def test_without_shots_a_promise_is_made_to_as_many_as_the_smallest_hospital_trains_on(
    call: Call, table: Path, tmp_path: Path
) -> None:
    code, shown = call("simulate", "--data", table, "--out", tmp_path / "run", "--set", "privacy=auto", "bootstrap=5")
    assert code == 0 and "3: a, b, c; 21 training cases each" in shown


def test_training_that_diverges_is_told_as_such_and_in_one_line_a_hospital(
    call: Call, table: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    words = ("--set", "methods=fedavg-2", "learning-rate=1e30")
    code, shown = call("simulate", "--data", table, "--out", tmp_path / "run", *words)
    assert code == 1 and DIVERGED in shown and DIVERGED in (tmp_path / "run" / "FAILED").read_text(encoding="utf-8")
    told = [record for record in caplog.records if "'train.fit' failed at this hospital" in record.getMessage()]
    assert len(told) == 3 and not any(record.exc_info for record in told)
    assert told[0].getMessage().endswith("local training diverged (the head is not finite); lower the learning rate")


def test_a_hospital_that_gave_nothing_but_its_name_ends_a_run_with_exit_code_1(
    call: Call, table: Path, tmp_path: Path
) -> None:
    lines = table.read_text(encoding="utf-8").splitlines(keepends=True)
    few = [line for line in lines if ",c,train," not in line or int(line.split(",")[1][2:]) < 8]
    (tmp_path / "few.csv").write_text("".join(few), encoding="utf-8")
    words = ("--set", "privacy=auto", "public-cases=20", "shots=0", "bootstrap=5", "methods=private-mean")
    code, shown = call("simulate", "--data", tmp_path / "few.csv", "--out", tmp_path / "run", *words)
    assert code == 1 and "failed: c: error: PatientsError: fewer patients than this run" in shown


@pytest.mark.parametrize("command", [("simulate", "--data"), ("data", "check"), ("features",)])
def test_an_empty_name_of_data_is_not_the_folder_one_stands_in(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_table(tmp_path / "manifest.csv")
    code, shown = call(*command, "")
    assert code == 1 and "error: the name of the data is empty; name their folder or file" in shown


def test_what_is_judged_is_counted_and_a_class_that_nobody_judges_is_named(
    call: Call, table: Path, tmp_path: Path
) -> None:
    lines = table.read_text(encoding="utf-8").splitlines(keepends=True)
    one = "".join(line for line in lines if not line.startswith("2,") or ",test," not in line)
    (tmp_path / "manifest.csv").write_text(one.replace(",c,train,", ",c,test,"), encoding="utf-8")
    said = "No test case is of the class '2': no figure tells how it is recognised."
    assert said not in call("data", "check", table)[1]
    (tmp_path / "manifest.csv").write_text(one, encoding="utf-8")
    assert f"note: {said}" in call("data", "check", tmp_path)[1]
    (tmp_path / "manifest.csv").write_text("".join(lines).replace(",c,train,", ",c,test,"), encoding="utf-8")
    words = ("--set", "test=sites", "methods=ridge", "bootstrap=5")
    code, shown = call("simulate", "--data", tmp_path, "--out", tmp_path / "run", *words)
    assert code == 0 and "test        18 cases" in shown and "2 hospitals, 18 test cases" in shown


def test_a_page_or_an_encoder_is_never_written_over_a_file_of_that_name(
    call: Call, table: Path, tmp_path: Path
) -> None:
    for name in ("one", "two"):
        words = ("--set", "methods=ridge", "bootstrap=5", "--out", tmp_path / name)
        assert call("simulate", "--quiet", "--data", table, *words)[0] == 0
    made = call("site", "init", tmp_path / "site", "--name", "a", "--data", table, "--server", "host:443")
    assert made[0] == 0
    (tmp_path / "mine").write_text("precious", encoding="utf-8")
    for command in (
        ("compare", tmp_path / "one", tmp_path / "two"),
        ("ledger", "statement", tmp_path / "site"),
        ("encode", table),
    ):
        code, shown = call(*command, "--out", tmp_path / "mine")
        assert (code, shown) == (1, f"error: {tmp_path / 'mine'} exists already; choose another name with --out\n")
    assert (tmp_path / "mine").read_text(encoding="utf-8") == "precious"


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("simulat",), 2, "No such command 'simulat'. Did you mean 'simulate'?"),
        (("features", "phantom", "methods=rigde"), 1, "error: unknown method 'rigde'; did you mean 'ridge'?"),
        (("features", "phantom", "epsilon=1"), 1, "error: epsilon has no effect on the features of cases; leave"),
        (("ledger", "shwo"), 2, "No such command 'shwo'. Did you mean 'show'?"),
        (("audit", "--heads", "2"), 2, "'--heads': 2 is not in the range x>=16"),
        (("audit", "--set", "epsilon=1"), 1, "epsilon is an option here; use --epsilon instead of --set epsilon=1"),
        (("audit", "--runs", "0"), 2, "'--runs': 0 is not in the range x>=400"),
        (
            ("site", "init", "new", "--name", "a", "--data", ".", "--server", "x"),
            1,
            "'x' is no address; write HOST:PORT",
        ),
    ],
)
def test_a_slip_in_a_command_is_told_once_with_what_was_meant(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], code: int, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    found, shown = call(*words)
    assert found == code and shown.count(said) == 1 and shown.casefold().count("did you mean") <= 1
    assert not list(tmp_path.iterdir())


def test_a_machine_without_the_memory_says_so_in_one_line(
    call: Call, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("medtl_core.cli.simulate.run_seeds", full)
    code, shown = call("simulate", "--quiet", "--data", table, "--out", tmp_path / "run", "--set", "methods=ridge")
    said = "error: this machine's memory is too small for that: lower image-size, sites or --workers"
    assert (code, shown.splitlines()[-1]) == (1, said) and (tmp_path / "run" / "FAILED").is_file()


@pytest.mark.parametrize(
    "words",
    [
        ("serve", ""),
        ("predict", "", "phantom"),
        ("export", "", "--out", "x"),
        ("adapt", "", "--data", "phantom"),
        ("site", "init", "", "--name", "a", "--data", "."),
        ("ledger", "show", ""),
        ("compare", "", ""),
        ("simulate", "--out", ""),
    ],
)
def test_an_empty_word_is_no_place(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    code, shown = call(*words)
    assert code == 2 and "it is empty; write . for this folder" in shown and not list(tmp_path.iterdir())


def test_a_folder_that_one_stands_in_is_no_head(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for words in (("predict", ".", "phantom"), ("export", ".", "--out", "x")):
        code, shown = call(*words)
        assert code == 1 and shown.startswith("error: ") and "head" in shown


def test_a_run_that_is_told_to_end_is_marked_as_failed(table: Path, tmp_path: Path) -> None:
    words = ["simulate", "--quiet", "--data", table, "--out", tmp_path / "run", "--set", "methods=fedavg-9000"]
    with subprocess.Popen(
        [sys.executable, "-m", "medtl_core.cli.app", *map(str, words)], stderr=subprocess.PIPE
    ) as child:
        events = tmp_path / "run" / "events.jsonl"
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and not (events.is_file() and events.stat().st_size):
            time.sleep(0.05)
        child.terminate()
        _, told = child.communicate(timeout=60)
    assert child.returncode == 130 and b"interrupted: a run that had begun is marked as failed" in told
    assert (tmp_path / "run" / "FAILED").read_text(encoding="utf-8") == "KeyboardInterrupt: interrupted\n"
