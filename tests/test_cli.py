"""The command line as a user meets it: quick to start, one line for what can be mended, and what each command shows."""

import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import click
import pytest

from medtl_core import __version__
from medtl_core.cli import app as cli
from medtl_core.federation.registry import method_names
from tests.report import made_up

ROOT = Path(__file__).resolve().parents[1]
HEAVY = ("torch", "torchvision", "flwr", "sklearn", "timm", "scipy", "PIL", "numpy", "typer", "rich")

#: An app whose server hands out stored results instead of training; its hospitals are never asked.
SERVER = """
import json
from pathlib import Path

from flwr.serverapp import ServerApp

from medtl_core.errors import RunError

app = ServerApp()


@app.main()
def main(grid, context):
    stored = json.loads((Path(__file__).parent / "results.json").read_text())
    print("noise on standard output")
    grid.listener({"kind": "phase", "phase": "fit", "round": 1, "of": 2})
    grid.listener({"kind": "never heard of"})
    if context.run_config["shots"] == 13:
        raise RunError("only 1 of 5 hospitals\\nanswered; wait, or lower quorum")
    result = Path(context.run_config["out"]) / "result.json"
    result.write_text(json.dumps(stored[context.run_config["seed"]]))
"""
PROJECT = """
[project]
name = "medtl"
[tool.flwr.app.components]
serverapp = "server.app:app"
clientapp = "client.app:app"
"""

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def app(tmp_path: Path) -> Path:
    """A made-up app."""
    folder = tmp_path / "app"
    for name, text in {
        "pyproject.toml": PROJECT,
        "server/__init__.py": "",
        "server/app.py": SERVER,
        "server/results.json": json.dumps(made_up.results(3)),
        "client/__init__.py": "",
        "client/app.py": "from flwr.clientapp import ClientApp\napp = ClientApp()\n",
        "simulations/scenarios/quickstart.toml": 'data = "phantom"\nimage-size = 32\n',
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def medtl(*words: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Runs the command line as a user does."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "COLUMNS": "100", "NO_COLOR": "1"}
    command = [sys.executable, "-m", "medtl_core.cli.app", *map(str, words)]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=120)


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """Runs the command line in this process and returns its exit code and what it showed."""

    def run(*words: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["medtl", *map(str, words)])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        code, shown = stopped.value.code, capsys.readouterr()
        return code if isinstance(code, int) else 0, shown.out, shown.err

    return run


def test_start_up_is_light() -> None:
    script = (
        "import sys, medtl_core.cli.app as cli\n"
        "cli.app(['--help'], standalone_mode=False)\n"
        f"print('HEAVY', sorted(set({HEAVY!r}) & set(sys.modules)))"
    )
    spent = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        found = subprocess.run(
            [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert all(f"  {name} " in found.stdout for name in cli.COMMANDS)
    assert found.stdout.splitlines()[-1] == "HEAVY []"
    # The best of three: the first start may have to compile modules.
    assert min(spent) < 0.4


def test_the_list_of_commands_says_what_each_says_of_itself() -> None:
    for name, (_, line) in cli.COMMANDS.items():
        command = cli.app.get_command(click.Context(cli.app), name)
        assert command is not None and command.help.split("\n\n")[0] == line


def test_every_argument_says_in_the_help_what_it_is() -> None:
    for name in cli.COMMANDS:
        command = cli.app.get_command(click.Context(cli.app), name)
        for one in getattr(command, "commands", {"": command}).values():
            page = one.get_help(click.Context(one, info_name=name))
            assert "\\[" not in page and page.count("rguments:") <= 1
            for argument in one.params:
                assert not isinstance(argument, click.Argument) or argument.help.split()[0] in page, (name, one.name)


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        ("--version", 0, f"medtl {__version__}\n"),
        ("simulat", 2, ""),
        ("simulate --nope", 2, ""),
        ("simulate --set", 2, ""),
        ("simulate a b", 2, ""),
        ("data check", 2, ""),
        ("report", 2, ""),
        ("simulate --set shotz=5", 1, "error: unknown setting 'shotz'; did you mean 'shots'?\n"),
        ("simulate epsilon=4", 1, "error: epsilon has no effect with privacy=none; set privacy=auto"),
        ("simulate methods=ridge secure-sum=true", 1, "error: secure-sum has no effect with privacy=none"),
        (
            "simulate methods=ridge,auto privacy=auto public-cases=20",
            1,
            "error: methods names ridge, which is not private",
        ),
        ("simulate nothere", 1, "error: no scenario 'nothere'"),
        ("simulate --data nowhere", 1, "error: there is no folder or file 'nowhere'"),
        ("data check nowhere", 1, "error: there is no folder or file 'nowhere'"),
        ("report nowhere", 1, "error: there is no run folder nowhere\n"),
    ],
)
def test_usage_errors_exit_with_2_and_what_a_user_can_mend_is_one_line(
    words: str, code: int, text: str, app: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(app)
    ended, out, err = call(*words.split())
    assert ended == code
    assert (err if code else out).startswith(text)
    if code == 1:
        assert (out, err.count("\n")) == ("", 1)


def test_simulate_shows_the_table_and_where_the_report_is(app: Path) -> None:
    found = medtl("simulate", "--set", "shots=90", "sites=10", "seeds=2", "--out", "here", cwd=app)
    assert found.returncode == 0, found.stderr
    assert "auto" in found.stdout and "95% t-interval over 2 seeds" in found.stdout
    assert f"report      {app / 'here' / 'report.html'}\n" in found.stdout
    assert "noise" not in found.stdout and "noise" in found.stderr
    assert "seed 2 of 2 done" in found.stderr
    config = json.loads((app / "here" / "config.json").read_text())
    assert (config["settings"]["shots"], config["settings"]["sites"], config["seeds"]) == (90, 10, 2)
    assert (app / "here" / "report.html").is_file()


def test_simulate_json_prints_the_metrics_and_nothing_else(app: Path, tmp_path: Path) -> None:
    words = ("simulate", "quickstart", "--app", app, "--seeds", "3", "--json", "--quiet", "--workers", "1")
    found = medtl(*words, cwd=tmp_path)
    assert found.returncode == 0, found.stderr
    metrics = json.loads(found.stdout)
    (stored,) = (tmp_path / "runs").glob("quickstart-*/metrics.json")
    assert found.stdout == stored.read_text(encoding="utf-8")
    assert metrics["methods"]["ridge"]["auroc"]["low"] < metrics["methods"]["ridge"]["auroc"]["mean"]
    assert "seed" not in found.stderr


def test_a_failed_run_is_one_line_and_a_marker(app: Path) -> None:
    found = medtl("simulate", "--set", "shots=13", "--out", "here", "--json", cwd=app)
    assert (found.returncode, found.stdout) == (1, "")
    assert found.stderr.splitlines()[-1] == "error: only 1 of 5 hospitals answered; wait, or lower quorum"
    assert "Traceback" not in found.stderr
    assert (app / "here" / "FAILED").read_text().startswith("RunError: only 1 of 5")
    assert not (app / "here" / "metrics.json").exists()


def test_methods_and_help_list_every_family_and_backbones_are_listed(call: Call) -> None:
    for words in (("methods",), ("simulate", "--help")):
        code, out, _ = call(*words)
        assert code == 0
        assert set(method_names()) <= set(out.replace(",", " ").split())
    code, out, _ = call("backbones")
    assert code == 0
    assert out.splitlines()[2].split() == ["lite0", "128", "4", "7", "10", "10", "here", "Apache-2.0", "ImageNet-1k"]


def write_table(folder: Path, last: str) -> None:
    """Writes a manifest of three rows and a last one, with small grey images."""
    from PIL import Image

    rows = ["a.png,ill,p1,north,train", "b.png,well,p2,north,train", "c.png,well,p3,south,train", last]
    for number, row in enumerate(rows):
        Image.new("L", (8, 8), number * 9).save(folder / row.split(",")[0])
    (folder / "manifest.csv").write_text("\n".join(["path,label,patient_id,site,split", *rows]) + "\n")


def test_data_check_counts(tmp_path: Path, call: Call) -> None:
    write_table(tmp_path, "d.png,ill,p4,south,test")
    code, out, _ = call("data", "check", tmp_path)
    assert code == 0
    table = [line.split() for line in out.splitlines()]
    assert ["north", "train", "1", "1", "2", "2"] in table
    assert ["south", "test", "1", "0", "1", "1"] in table
    assert "licence: " in out
    assert out.endswith("no fault found\n")


def test_data_check_names_every_fault(tmp_path: Path, call: Call) -> None:
    write_table(tmp_path, "d.png,ill,p1,south,test")
    (tmp_path / "b.png").write_bytes(b"no image")
    code, out, _ = call("data", "check", tmp_path)
    assert code == 1
    faults = [line for line in out.splitlines() if line.startswith("fault: ")]
    for fault, words in zip(faults, ("b.png", "'train' and 'test'", "'north' and 'south'"), strict=True):
        assert words in fault
