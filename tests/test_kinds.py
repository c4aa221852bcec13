"""Machines as hospitals have them: terminals, locales, users without a home, full disks; and figures as they can be."""

import io
import sys
from pathlib import Path

import numpy as np
import pytest
import typer
from rich.console import Console

from medtl_core.cli import app, console
from medtl_core.cli.simulate import simulate, tell_failures
from medtl_core.config import Settings, read_scenario, settings
from medtl_core.data.catalog import Entry, Layout
from medtl_core.data.source import Source
from medtl_core.errors import ConfigError, PrivacyError
from medtl_core.flower.run import RunPlan
from medtl_core.privacy.accounting import delta_of, mu_for
from medtl_core.report.estimate import Estimate
from medtl_core.store import cache_folder, write_json
from medtl_core.values import Examples, Task
from tests.manifest import write_table

ROOT = Path(__file__).resolve().parents[1]


def counts(classes: list[str], cases: int) -> Source:
    label = np.repeat(np.arange(len(classes)), cases)
    same = {name: np.full(len(label), name) for name in ("patient", "site", "split")}
    task = Task("t", tuple(classes))
    entry = Entry("own", "own data", "", task, (), Layout("own"), "natural", (), "", "", "")
    return Source(entry, Examples({"label": label, **same}, task))


@pytest.mark.parametrize("terminal", [False, True])
@pytest.mark.parametrize("classes", [14, 3, 40])
def test_every_number_of_a_table_is_whole(monkeypatch: pytest.MonkeyPatch, classes: int, terminal: bool) -> None:
    from medtl_core.cli.data import counts_table

    out = io.StringIO()
    made = Console(file=out, width=100, force_terminal=terminal, color_system=None, highlight=False)
    monkeypatch.setattr(console, "console_of", lambda **options: made)
    console.show(counts_table(counts([f"Enlarged finding {number}" for number in range(classes)], 1250)), markup=False)
    assert "…" not in out.getvalue()
    if not terminal:
        assert out.getvalue().count("1250") == classes


@pytest.mark.parametrize("name", ["lesion [benign]", "[red]", "[/]", "a [b] c [/b]"])
def test_names_are_printed_as_they_are(capsys: pytest.CaptureFixture[str], name: str) -> None:
    from medtl_core.cli.data import counts_table

    console.show(counts_table(counts([name, "other"], 2)), markup=False)
    assert name in capsys.readouterr().out


@pytest.mark.parametrize("encoding", ["latin-1", "ascii", "cp1252", "utf-8"])
def test_a_terminal_without_a_sign_is_no_error(monkeypatch: pytest.MonkeyPatch, encoding: str) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setattr(app.app, "main", lambda **options: sys.stdout.write("0.5–0.7 字"))  # noqa: RUF001
    with pytest.raises(SystemExit):
        app.main()
    stream.flush()


@pytest.mark.parametrize(
    "error",
    [OSError(28, "No space left on device", "x"), OSError(27, "File too large"), PermissionError(13, "denied", "y")],
)
def test_a_disk_that_takes_nothing_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: OSError
) -> None:
    def full(**options: object) -> None:
        raise error

    monkeypatch.setattr(app.app, "main", full)
    with pytest.raises(SystemExit) as ended:
        app.main()
    said = capsys.readouterr().err
    assert ended.value.code == 1 and said.count("\n") == 1 and str(error.strerror) in said


@pytest.mark.parametrize("setting", ["", "off", "/named", "~/named"])
def test_a_user_without_a_home_has_no_cache_but_a_named_one(monkeypatch: pytest.MonkeyPatch, setting: str) -> None:
    for variable in ("MEDTL_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr("os.path.expanduser", lambda path: str(path))  # as Python does where there is none
    assert cache_folder(setting) == {"": None, "off": None}.get(setting, Path(setting))


@pytest.mark.parametrize("content", ["leave-out = 'S\xfcd'".encode("latin-1"), b"\xff\xfes", b"shots = \x80"])
def test_a_scenario_of_another_encoding_is_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.toml").write_bytes(content)
    with pytest.raises(ConfigError, match="cannot be read as TOML in UTF-8"):
        read_scenario(tmp_path / "a.toml")


def test_a_scenario_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text("\ufeffleave-out = 'Süd'", encoding="utf-8")
    assert read_scenario(tmp_path / "a.toml") == {"leave-out": "Süd"}


@pytest.mark.parametrize("epsilon", [1e-3, 4.0, 1e4, 1e6, 1e9, 1e12])
@pytest.mark.parametrize("delta", [1e-9, 1e-5, 0.1])
def test_any_epsilon_is_kept_as_promised_or_refused(epsilon: float, delta: float) -> None:
    try:
        mu = mu_for(epsilon, delta)
    except PrivacyError as error:
        assert epsilon > 1e6 and f"epsilon={epsilon:g}" in str(error)
    else:
        assert 0.9 * delta <= delta_of(epsilon, mu) <= delta * (1 + 1e-6)


@pytest.mark.parametrize("values", [[0.0, 1.0], [0.9, 1.0], [0.0, 0.0, 0.1], [0.5, 0.52]])
def test_no_interval_leaves_what_its_figure_can_be(values: list[float]) -> None:
    figure, gain = Estimate.over(values), Estimate.over([1 - 2 * value for value in values], limits=(-1.0, 1.0))
    assert figure.ends is not None and gain.ends is not None
    assert 0.0 <= figure.ends[0] <= np.mean(values) <= figure.ends[1] <= 1.0
    assert -1.0 <= gain.ends[0] < gain.ends[1] <= 1.0


@pytest.mark.parametrize("cell", ["zwölf", '"=1+1"'])
def test_a_case_left_out_is_said_in_the_log_and_in_the_report(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, cell: str
) -> None:
    table = write_table(tmp_path / "table.csv", "ab", 45)
    lines = table.read_text().splitlines()
    lines[4] = f"{lines[4].rpartition(',')[0]},{cell}"
    table.write_text("\n".join(lines) + "\n")
    values = {"data": "", "data-path": str(table), "backbone": "table", "sites": 2, "shots": 0, "methods": "ridge"}
    simulate(RunPlan(settings({**values, "bootstrap": 5, "cache": "off"}), 1, 1, False, tmp_path / "out", ROOT, "left"))
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    for said in (caplog.text, page.replace("&#39;", "'")):
        assert "column 'c2' holds no number in row 5" in said.replace("&#x27;", "'") and cell.strip('"') not in said


@pytest.mark.parametrize(
    ("sites", "exchanges", "code"),
    [({"north": 3}, 3, 1), ({"north": 3, "south": 2}, 3, 0), ({"north": 3, "south": 2}, 2, 1)],
)
def test_a_hospital_that_took_no_part_is_named_and_the_exit_code_is_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], sites: dict[str, int], exchanges: int, code: int
) -> None:
    failure = {"site": "south", "code": "data", "text": "its data could not be used"}
    phases = [{"phase": name} for name in ("join", *["fit"] * exchanges)]
    (tmp_path / "seed-0").mkdir()
    write_json(tmp_path / "seed-0" / "result.json", {"sites": sites, "failures": [failure, failure], "phases": phases})
    plan = RunPlan(Settings(), 1, 1, False, tmp_path, ROOT, "lost")
    try:
        tell_failures(plan)
        assert code == 0
    except typer.Exit as ended:
        assert ended.exit_code == code
    assert capsys.readouterr().err == "failed: south: data: its data could not be used\n"
