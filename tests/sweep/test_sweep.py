"""`medtl sweep privacy` on made-up runs: what may be asked, the folder, the words and the page; and once for real."""

import csv
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from medtl_core.cli import app as cli
from medtl_core.cli.app_folder import find_app
from medtl_core.cli.simulate import simulate
from medtl_core.flower.run import RunPlan
from medtl_core.sweep.request import MECHANISMS
from tests.report.reading import Reader, check_whole
from tests.sweep import made_up

APP = find_app(Path(__file__).resolve().parents[2])


class Command:
    """`medtl sweep privacy` over three made-up hospitals, into one folder."""

    def __init__(self, out: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.out, self.monkeypatch, self.capsys = out, monkeypatch, capsys
        self.run: Any = made_up.stored
        self.plans: list[RunPlan] = []
        monkeypatch.setattr("medtl_core.cli.sweep.simulate", self.simulate)

    def simulate(self, plan: RunPlan) -> None:
        self.plans.append(plan)
        self.run(plan)

    def __call__(
        self, *words: str, epsilons: str = "0.5,4", mechanisms: str = "private-mean,private-gradient-2"
    ) -> int:
        """Returns the exit code; what was printed is in `shown` and `said`."""
        small = ("sites=3", "image-size=32", "features=4", "--epsilons", epsilons, "--mechanisms", mechanisms)
        return self.typed(*small, "--app", str(APP), "--out", str(self.out), *words)

    def typed(self, *words: str) -> int:
        self.plans.clear()
        self.monkeypatch.setattr(sys, "argv", ["medtl", "sweep", "privacy", *words])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        self.shown, self.said = self.capsys.readouterr()
        return int(stopped.value.code or 0)

    @property
    def metrics(self) -> dict[str, Any]:
        metrics: dict[str, Any] = json.loads((self.out / "metrics.json").read_text(encoding="utf-8"))
        return metrics

    @property
    def rows(self) -> list[dict[str, str]]:
        with (self.out / "sweep.csv").open(encoding="utf-8", newline="") as stream:
            return list(csv.DictReader(stream))

    @property
    def page(self) -> Reader:
        return check_whole((self.out / "report.html").read_text(encoding="utf-8"))

    @property
    def cells(self) -> list[str]:
        return ["/".join(plan.out.parts[-3:]) for plan in self.plans]


@pytest.fixture
def sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(tmp_path / "out", monkeypatch, capsys)


# --- what may be asked


def test_every_combination_runs_once_and_says_everything_in_its_settings(sweep: Command) -> None:
    assert sweep("--shots", "20,12,20", "--seeds", "2", "--quiet", epsilons="4,4", mechanisms="private-mean") == 0
    assert len(set(sweep.cells)) == len(sweep.cells) == 2 * 2 * (1 + 1)
    chosen = [plan.settings for plan in sweep.plans]
    assert [settings.seed for settings in chosen] == [0] * 4 + [1] * 4  # the first seed of all first
    assert [settings.shots for settings in chosen] == [12, 12, 20, 20] * 2
    assert {(settings.privacy, settings.secure_sum, settings.methods) for settings in chosen} == {
        ("none", False, "discriminant,fedavg-20,local"),
        ("auto", True, "private-mean"),
    }
    # the public number is that of the smallest hospital
    assert all(2 <= settings.public_cases <= settings.shots for settings in chosen if settings.privacy == "auto")
    assert sweep.said == ""


def test_settings_that_are_given_are_kept(sweep: Command) -> None:
    assert sweep("public-cases=5", "secure-sum=false", "--seeds", "1") == 0
    private = [plan.settings for plan in sweep.plans if plan.settings.privacy == "auto"]
    assert {(chosen.public_cases, chosen.secure_sum) for chosen in private} == {(5, False)}
    assert {row["sum"] for row in sweep.rows} == {"open", "none"} and "Open: the server sees" in sweep.page.text


def test_without_words_every_kind_of_mechanism_is_swept_over_the_quickstart(sweep: Command, tmp_path: Path) -> None:
    sweep.monkeypatch.chdir(tmp_path)
    few = ("--app", str(APP), "--minutes", "0", "--seeds", "1", "--epsilons", "4", "image-size=32")
    assert sweep.typed(*few) == 1
    place = tmp_path / "runs" / "sweep-privacy-quickstart"
    assert "the time budget was spent" in sweep.said and str(place) in sweep.said
    asked = json.loads((place / "config.json").read_text())
    assert asked["mechanisms"] == MECHANISMS.split(",") and asked["secure-sum"] is True
    assert asked["references"] == ["discriminant", "fedavg-20", "local"]
    assert asked["settings"]["data"] == "phantom"
    elsewhere = tmp_path / "elsewhere"
    assert sweep.typed(f"out={elsewhere}", *few) == 1
    assert (elsewhere / "config.json").is_file()


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("--minutes", "-1"), "minutes=-1.0 must not be negative"),
        (("--minutes", "nan"), "minutes=nan must not be negative"),
        (("--seeds", "0"), "seeds=0 must be greater than 0"),
        (("--epsilons", "0"), "'0' must be a number above 0"),
        (("--epsilons", "1,-2"), "'-2' must be a number above 0"),
        (("--epsilons", "inf"), "'inf' must be a number above 0"),
        (("--epsilons", "nan"), "'nan' must be a number above 0"),
        (("--epsilons", "1,two"), "'two' must be a number above 0"),
        (("--epsilons", "none"), "names no number"),
        (("--shots", "0"), "must be a whole number above 0"),
        (("--shots", "10,ten"), "must be a whole number above 0"),
        (("--shots", "2.5"), "must be a whole number above 0"),
        (("--shots", "10", "shots=5"), "shots are given by --shots 10 and by --set shots=5"),
        (("--mechanisms", " , "), "names none"),
        (("--mechanisms", "private-men"), "unknown mechanism 'private-men'; did you mean 'private-mean'?\n"),
        (("--mechanisms", "fedavg-20"), "'fedavg-20' is not private"),
        (("epsilon=3",), "epsilon is what a sweep varies; use --epsilons"),
        (("methods=ridge",), "methods is what a sweep varies; use --mechanisms"),
        (("privacy=mean",), "privacy is what a sweep varies; use --mechanisms"),
        (("sites=2",), "sweep without it: --set secure-sum=false"),
        (("colluders=3",), "cannot withstand 3 colluders"),
        (("delta=0.5", "image-size=32"), "delta=0.5 promises little"),
        (("test=sites", "image-size=32"), "needs test=server"),
        (("shots=1", "image-size=32"), "privacy needs two"),
    ],
)
def test_what_contradicts_a_sweep_is_one_line_before_anything_runs(
    words: tuple[str, ...], text: str, sweep: Command, tmp_path: Path
) -> None:
    sweep.monkeypatch.chdir(tmp_path)
    assert sweep.typed("--app", str(APP), *words) == 1
    assert sweep.said.startswith("error: ") and sweep.said.count("\n") == 1 and text in sweep.said
    assert sweep.plans == [] and list(tmp_path.iterdir()) == []


# --- what it finds


def test_rows_table_and_page_agree(sweep: Command) -> None:
    assert sweep() == 0
    assert len(sweep.rows) == 3 * (3 + 2 * 2)
    private = [row for row in sweep.rows if row["epsilon"]]
    assert {row["sum"] for row in private} == {"secure"}
    for row in private:  # the ledgers account for the whole promise, and for no more
        assert 0.999 * float(row["epsilon"]) < float(row["spent"]) <= float(row["epsilon"])
        assert float(row["delta"]) == 1e-5
    assert {row["sum"] for row in sweep.rows if not row["epsilon"]} == {"none"}
    assert sweep.rows[0]["worst_site"] == sweep.rows[0]["spent"] == ""  # not defined, not zero
    page, shown = sweep.page, [line.split() for line in sweep.shown.splitlines()]
    assert ["Method", "0.5", "4", "none"] in shown
    assert ["private-mean", "0.340*", "0.710"] in shown and ["private-gradient-2", "0.560", "0.710"] in shown
    assert ["discriminant", "0.810"] in shown
    cell = sweep.metrics["cells"][0]
    assert (cell["shots"], cell["epsilon"], cell["seeds"]) == (30, 0.5, [0, 1, 2])
    estimate = cell["methods"]["private-mean"]["balanced_accuracy"]
    assert [round(estimate[key], 3) for key in ("mean", "low", "high")] == [0.34, 0.315, 0.365]
    ends = "0.315–0.365"  # noqa: RUF001
    for words in ("Synthetic data.", "0.340*", ends, "the range is not above 0.333", "sum securely"):
        assert words in page.text
    drawn = [
        f"{name}, epsilon {epsilon}" for name in ("private-mean", "private-gradient-2") for epsilon in ("0.5", "4")
    ]
    assert [*dict.fromkeys(words for words in page.words if words in drawn)] == drawn
    hollow = [attrs for tag, attrs in page.seen if tag == "circle" and (attrs["fill"] or "").startswith("var(--paper")]
    assert len(hollow) == 2 * 3  # the references, in two panels
    assert f"report  {sweep.out / 'report.html'}\n" in sweep.shown and sweep.said.count("seed-") == 9


def test_json_is_what_the_folder_keeps(sweep: Command) -> None:
    assert sweep("--seeds", "1", "--json", "--quiet") == 0
    assert sweep.shown == (sweep.out / "metrics.json").read_text(encoding="utf-8")
    assert sweep.said == ""


def test_one_seed_takes_its_bootstrap_and_without_an_interval_nothing_is_said_of_chance(sweep: Command) -> None:
    assert sweep("--seeds", "1", mechanisms="private-mean") == 0
    estimate = sweep.metrics["cells"][0]["methods"]["private-mean"]["balanced_accuracy"]
    assert (estimate["low"], estimate["high"]) == (pytest.approx(0.28), pytest.approx(0.38))
    assert "0.330*" in sweep.shown
    for path in sweep.out.rglob("result.json"):
        spoil(path, lambda result: [method.pop("intervals") for method in result["methods"].values()])
    assert sweep("--seeds", "1", mechanisms="private-mean") == 0
    assert "0.330" in sweep.shown and "0.330*" not in sweep.shown


@pytest.mark.slow
def test_numbers_of_shots_are_told_apart_and_hostile_names_are_escaped(sweep: Command) -> None:
    def hostile(plan: RunPlan) -> None:
        made_up.stored(plan)
        (path,) = plan.out.glob("seed-*/result.json")
        spoil(path, lambda result: result.update(classes=["<script>alert(1)</script>\"'&", "b", "c"]))

    sweep.run = hostile
    assert sweep("--shots", "12,20", "--seeds", "1", f"cache={sweep.out.parent / 'secret'}") == 0
    for name in ("private-mean, 12 shots", "private-mean, 20 shots", "local, 12 shots", "local, 20 shots"):
        assert name in sweep.shown and name in sweep.page.text
    assert "<script>alert(1)</script>" in sweep.page.text and "secret" not in sweep.page.text


# --- the folder


@pytest.mark.slow
def test_a_sweep_goes_on_where_it_was_stopped(sweep: Command) -> None:
    def stopped(plan: RunPlan) -> None:
        if len(sweep.plans) == 4:
            plan.out.mkdir(parents=True)
            (plan.out / "half").write_text("of a run")
            raise KeyboardInterrupt
        made_up.stored(plan)

    sweep.run = stopped
    assert sweep() == 130
    first, sweep.run = sweep.cells, made_up.stored
    assert sweep() == 0
    assert sweep.cells[0] == first[-1]  # the broken one is done anew, those before it are not
    assert len(sweep.cells) == 9 - 3 and not list(sweep.out.rglob("half"))
    assert (sweep.metrics["done"], sweep.metrics["of"], sweep.metrics["failed"]) == (9, 9, {})
    assert sweep(epsilons="0.5,2,4") == 0  # another epsilon is more of the same
    assert len(sweep.cells) == 3
    assert sweep("--minutes", "0", epsilons="0.5,1,2,4") == 0
    assert "12 of 15 runs are done; the same command goes on" in sweep.shown


def test_a_failed_cell_is_named_and_the_others_go_on(sweep: Command) -> None:
    assert sweep("--shots", "12,13", "--seeds", "1") == 1
    assert sweep.said.count("seed-") == 2 * 3
    assert (sweep.metrics["done"], len(sweep.metrics["failed"])) == (3, 3)
    assert sweep.metrics["failed"]["out/secure/phantom-13-4/seed-0"] == "RunError: only 1 of 5 hospitals answered"
    assert "FAILED: out/secure/phantom-13-4/seed-0: RunError: only 1 of 5 hospitals answered" in sweep.shown
    failed = sweep.metrics["failed"]
    assert sweep("--shots", "12,13", "--seeds", "1", "--minutes", "0") == 1  # no time: as it is there
    assert sweep.metrics["failed"] == failed


def test_where_no_cell_finishes_there_is_no_report(sweep: Command) -> None:
    assert sweep("shots=13") == 1
    assert "has finished: RunError: only 1 of 5" in sweep.said
    assert not list(sweep.out.rglob("report.html")) and not list(sweep.out.rglob("sweep.csv"))


def test_a_folder_holds_one_sweep_and_what_is_of_something_else_is_left_alone(sweep: Command, tmp_path: Path) -> None:
    assert sweep("--seeds", "1", mechanisms="private-mean") == 0
    before = sorted(sweep.out.rglob("*"))
    for words, mechanisms, difference in (
        (("alpha=0.9",), "private-mean", "alpha: 0.3 there, 0.9 here"),
        ((), "private-auto", "mechanisms: ['private-mean'] there, ['private-auto'] here"),
        (("secure-sum=false",), "private-mean", "secure-sum: True there, False here"),
    ):
        assert sweep("--seeds", "1", *words, mechanisms=mechanisms) == 1
        assert f"holds another run ({difference})" in sweep.said
    assert sorted(sweep.out.rglob("*")) == before
    (tmp_path / "file").write_text("")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text('{"name": "quickstart"}')
    refusals = {
        "file": "cannot be written",
        "mine": "something else",
        "run": "sweep: None there",
        "file/x": "cannot be",
    }
    for place, text in refusals.items():
        sweep.out = tmp_path / place
        assert sweep() == 1
        assert text in sweep.said and sweep.plans == []


def test_two_sweeps_never_work_in_one_folder(sweep: Command) -> None:
    codes = []

    def again(plan: RunPlan) -> None:
        if not codes:
            codes.append(0)
            codes[0] = sweep()
        made_up.stored(plan)

    sweep.run = again
    sweep()
    assert codes == [1]


def test_a_ledger_is_read_and_never_trusted(sweep: Command) -> None:
    assert sweep("--seeds", "1") == 0
    book = next((sweep.out / "secure").rglob("ledger.jsonl"))
    kept = book.read_text()
    book.write_text(kept.replace('"noise_multiplier":', '"noise_multiplier":9'))
    assert sweep("--seeds", "1") == 1
    assert "was changed at line" in sweep.said
    for place in (sweep.out / "secure").rglob("ledger.jsonl"):
        place.unlink()
    assert sweep("--seeds", "1") == 1
    assert "holds no ledger of private-mean" in sweep.said


def test_a_broken_promise_is_a_failure(sweep: Command) -> None:
    assert sweep("--seeds", "1", epsilons="4", mechanisms="private-mean") == 0
    (path,) = (sweep.out / "secure").rglob("result.json")
    spoil(path, lambda result: result["settings"].update(epsilon=3.9))
    assert sweep("--seeds", "1", epsilons="4", mechanisms="private-mean") == 1
    assert "seed 0: a ledger accounts for epsilon 4: more than was promised" in sweep.shown
    assert "a ledger accounts for epsilon 4" in sweep.page.text


def spoil(path: Path, change: Any) -> None:
    """Changes the stored result of a run."""
    result = json.loads(path.read_text(encoding="utf-8"))
    change(result)
    path.write_text(json.dumps(result), encoding="utf-8")


# --- the real road


def test_a_sweep_through_the_real_apps(sweep: Command, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for number in range(12):
        (tmp_path / "public" / f"class{number % 2}").mkdir(parents=True, exist_ok=True)
        pixels = np.cumsum(rng.integers(0, 12, (40, 40, 3)), axis=number % 2).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / "public" / f"class{number % 2}" / f"{number}.png")
    sweep.run = simulate
    words = ("shots=12", "bootstrap=5", f"public-images={tmp_path / 'public'}", f"cache={tmp_path / 'cache'}")
    assert sweep(*words, "--seeds", "1", epsilons="2", mechanisms="private-mean-8") == 0
    assert (sweep.metrics["done"], sweep.metrics["failed"]) == (2, {})
    private, free = sweep.metrics["cells"]
    assert (list(private["methods"]), list(free["methods"])) == (
        ["private-mean-8"],
        ["discriminant", "fedavg-20", "local"],
    )
    (spent,) = [row["spent"] for row in sweep.metrics["rows"] if row["epsilon"] == 2]
    assert 1.99 < spent <= 2.0
