"""`medtl report` on stored results: the page, `metrics.json` and the table in the terminal."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from medtl_core.cli import app as cli
from tests.report import made_up
from tests.report.reading import Reader, check_whole

Results = list[dict[str, Any]]


class Report:
    """What `medtl report` makes of results."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self.monkeypatch, self.capsys = folder, monkeypatch, capsys
        self.terminal = ""

    def store(self, results: Results) -> None:
        for number, result in enumerate(results):
            place = self.folder / f"seed-{number}"
            place.mkdir(exist_ok=True)
            (place / "result.json").write_text(json.dumps(result))

    def of(self, results: Results) -> "Report":
        """Stores the results and reports on them."""
        self.store(results)
        assert self.called() == 0
        self.terminal = self.capsys.readouterr().out
        return self

    def called(self, folder: Path | None = None) -> int:
        """Returns the exit code."""
        self.monkeypatch.setattr(sys, "argv", ["medtl", "report", str(folder or self.folder)])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        return int(stopped.value.code or 0)

    @property
    def refused(self) -> str:
        """The one line that says why there is no report."""
        assert self.called() == 1
        return self.capsys.readouterr().err

    @property
    def metrics(self) -> dict[str, Any]:
        metrics: dict[str, Any] = json.loads((self.folder / "metrics.json").read_text())
        return metrics

    @property
    def html(self) -> str:
        return (self.folder / "report.html").read_text(encoding="utf-8")

    @property
    def page(self) -> Reader:
        return check_whole(self.html)


@pytest.fixture
def report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Report:
    return Report(tmp_path, monkeypatch, capsys)


def method(result: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = result["methods"][name]
    return found


# --- the page


def test_every_method_stands_with_its_figures_intervals_and_cost(report: Report) -> None:
    results = made_up.results()
    metrics, page, html = report.of(results).metrics, report.page, report.html
    for name, judged in metrics["methods"].items():
        assert name in page.text
        for figure in ("balanced_accuracy", "auroc"):
            estimate = judged[figure]
            assert page.text.count(f"{estimate['mean']:.3f}") >= 2  # once in the plot, once in the table at least
            assert f"{estimate['low']:.3f}–{estimate['high']:.3f}" in page.text  # noqa: RUF001
    assert "624 kB" in page.text
    hollow = [attrs for tag, attrs in page.seen if tag == "circle" and (attrs["fill"] or "").startswith("var(--paper")]
    assert len(hollow) == 2 * 2  # references differ by shape: local and pooled, in two panels
    assert report.of(results).html == html


def test_curves_are_drawn_for_every_site_and_method(report: Report) -> None:
    page = report.of(made_up.results()).page
    for name in made_up.QUALITY:
        assert f"ROC by site, {name}" in page.text and f"Reliability, {name}" in page.text
    assert all(f"{cases} test cases" in page.text for cases in made_up.SITES.values())
    assert "AUROC not defined" in page.text  # nearest-mean at the site with one class
    forests, phases, each = 3, 3, len(made_up.SITES) + 1  # a panel a site, and the reliability diagram
    assert sum(tag == "svg" for tag, _ in page.seen) == forests + phases + each * len(made_up.QUALITY)


def test_the_lead_says_what_came_out(report: Report) -> None:
    results = made_up.results(1)
    reached = method(results[0], "auto")["figures"]["balanced_accuracy"]
    text = report.of(results).page.text
    assert f"With 90 training cases at each of 8 hospitals, auto reached a balanced accuracy of {reached:.3f}" in text
    assert "more than hospitals that train alone" in text and "Each hospital sent 624 kB" in text
    assert "very test cases" not in text


def test_what_auto_took_and_by_how_much_is_said(report: Report) -> None:
    results = made_up.results(2)
    for result, chosen, gain in zip(results, ("mean", "logistic-5"), (-0.01, 0.05), strict=True):
        gains = {"discriminant": {"gain": -0.2, "error": 0.1}, "logistic-5": {"gain": gain, "error": 0.02}}
        method(result, "auto")["facts"] = {"chosen": chosen, "gains": gains}
    made = report.of(results)
    words = (
        "mean at 1 of 2 seeds, logistic-5 at 1 of 2 seeds (nats gained: discriminant -0.200 ± 0.100, logistic-5 +0.020"
    )
    assert f"By cross-validation it took {words}" in made.page.text and "auto took mean at 1 of 2" in made.terminal
    assert (
        made.metrics["methods"]["auto"]["taken"].startswith(words) and "taken" not in made.metrics["methods"]["ridge"]
    )


def test_a_method_picked_on_the_test_cases_is_called_so(report: Report) -> None:
    results = made_up.results(1)
    del results[0]["methods"]["auto"]
    method(results[0], "pooled-logistic")["figures"]["balanced_accuracy"] = 0.99  # not federated
    assert "discriminant is the best federated method on these very test cases" in report.of(results).page.text
    results[0]["methods"] = {"local": method(results[0], "local")}
    assert "local reached a balanced accuracy" in report.of(results).page.text


def test_synthetic_cases_are_called_so(report: Report) -> None:
    assert "Synthetic data." not in report.of(made_up.results(1)).page.text
    assert "Synthetic data." in report.of(made_up.results(1, "phantom")).page.text
    results = made_up.results(1)
    results[0]["data"]["synthetic"] = True
    assert "Synthetic data." in report.of(results).page.text


def test_cases_that_a_backbone_learnt_from_are_called_so_everywhere(report: Report) -> None:
    results = made_up.results(1)
    assert "contamination" not in report.of(results).metrics
    results[0]["data"]["contamination"] = words = "Contaminated: own:mine learnt from ham10000_sites."
    assert words in report.of(results).page.text
    assert (report.metrics["contamination"], words in report.terminal) == (words, True)


def test_names_from_hospitals_cannot_become_markup(report: Report) -> None:
    evil = "<script>alert(1)</script>\"'&"
    results = made_up.results(1)
    one = results[0]
    one["sites"][evil] = 5
    one["classes"] = [evil, "b"]
    one["failures"] = [{"site": evil, "code": evil, "text": evil}]
    judged = one["methods"].pop("ridge")
    judged["by_site"][evil] = {"balanced_accuracy": 0.5, "auroc": 0.5, "n": 3}
    judged["curves"]["roc"][evil] = [[0, 1], [0, 1]]
    one["methods"] = {"auto": judged, evil: judged}
    one["phases"][0]["phase"] = evil
    one["settings"]["note"] = evil
    assert evil in report.of(results).page.text
    assert "secret" not in report.html  # places on the machine are not shown


def test_failures_are_counted(report: Report) -> None:
    text = report.of(made_up.results()).page.text
    assert "Hospitals that did not answer" in text and "deadline: no answer within 600 s" in text
    assert "1 failed replies" in report.terminal


def test_a_run_judged_by_sums_has_no_curve_and_still_a_page(report: Report) -> None:
    results = made_up.results(1)
    results[0]["test"] = {"cases": 0, "sites": []}
    results[0]["phases"] = []
    for judged in results[0]["methods"].values():
        judged |= {"curves": {}, "by_site": {}, "intervals": {}}
    text = report.of(results).page.text
    assert "by sums over the cases that each hospital holds back" in text
    assert "By site" not in text and "Calibration Does" not in text and "What was sent" not in text
    assert "Hospitals that did not answer" not in text


def test_many_sites_are_listed_and_the_largest_drawn(report: Report) -> None:
    results = made_up.results(1)
    judged = method(results[0], "auto")
    results[0]["methods"] = {"auto": judged}
    judged["by_site"] = {f"s{i:02}": {"balanced_accuracy": 0.5, "auroc": 0.5, "n": i} for i in range(30)}
    judged["curves"]["roc"] |= {f"s{i:02}": [[0, 1], [0, 1]] for i in range(30)}
    page = report.of(results).page
    assert "the table lists all 30" in page.text and "29 test cases" in page.text
    assert ">5 test cases" not in report.html
    assert sum(words.endswith(" test cases") and words[0].isdigit() for words in page.words) == 24


# --- the figures


def test_several_seeds_give_the_t_interval(report: Report) -> None:
    results = made_up.results(4)
    values = [method(one, "ridge")["figures"]["auroc"] for one in results]
    low, high = stats.t.interval(0.95, 3, np.mean(values), stats.sem(values))
    metrics = report.of(results).metrics
    assert metrics["methods"]["ridge"]["auroc"] == pytest.approx({"mean": np.mean(values), "low": low, "high": high})
    assert (metrics["schema"], metrics["seeds"], metrics["classes"]) == (1, [0, 1, 2, 3], made_up.CLASSES)
    assert metrics["interval"] == "95% t-interval over 4 seeds"
    assert list(metrics["methods"]) == list(made_up.QUALITY)
    assert report.of(results[::-1]).metrics == metrics


def test_one_seed_gives_its_patient_bootstrap_and_names_other_kinds(report: Report) -> None:
    results = made_up.results(1)
    method(results[0], "local")["facts"] = {"interval": "t-interval over hospitals"}
    metrics = report.of(results).metrics
    estimate, judged = metrics["methods"]["auto"]["balanced_accuracy"], method(results[0], "auto")
    assert [estimate["low"], estimate["high"]] == judged["intervals"]["balanced_accuracy"]
    assert metrics["methods"]["auto"]["ece"] == {"mean": judged["figures"]["ece"], "low": None, "high": None}
    assert metrics["interval"] == "95% patient bootstrap of one seed"
    assert "patient bootstrap of one seed; local: t-interval over hospitals" in report.page.text


def test_undefined_figures_stay_undefined(report: Report) -> None:
    results = made_up.results(3)
    nothing = {"mean": None, "low": None, "high": None}
    assert report.of(results).metrics["methods"]["nearest-mean"]["worst_site"] == nothing
    method(results[0], "nearest-mean")["figures"]["worst_site"] = 0.5
    alone = report.of(results).metrics["methods"]["nearest-mean"]["worst_site"]
    assert alone == {"mean": 0.5, "low": None, "high": None, "undefined": 2}
    for result in results:
        method(result, "auto")["by_site"]["vidir_modern"] |= {"balanced_accuracy": None, "auroc": None}
    assert "vidir_modern (168): –" in report.of(results).page.text  # noqa: RUF001


def test_the_gain_over_local_is_paired_by_seed(report: Report) -> None:
    results = made_up.results(3)
    for number, one in enumerate(results):
        method(one, "local")["figures"]["auroc"] = 0.6 + 0.1 * number
        method(one, "auto")["figures"]["auroc"] = 0.65 + 0.1 * number
    metrics = report.of(results).metrics
    gain = metrics["methods"]["auto"]["versus_local"]["auroc"]
    assert gain == pytest.approx({"mean": 0.05, "low": 0.05, "high": 0.05})
    assert "versus_local" not in metrics["methods"]["local"]
    assert "+0.050 to +0.050" in report.page.text


def test_costs_are_means_over_the_seeds_in_which_a_method_took_part(report: Report) -> None:
    results = made_up.results(2)
    method(results[0], "ridge")["cost"] |= {"bytes_up": 100, "cpu_seconds": 1.0}
    method(results[1], "ridge")["cost"] |= {"bytes_up": 201, "cpu_seconds": 2.0}
    found = report.of(results).metrics["methods"]["ridge"]
    assert (found["bytes_up"], found["cpu_seconds"], found["rounds"]) == (150, 1.5, 1)
    del results[1]["methods"]["ridge"]
    found = report.of(results).metrics["methods"]["ridge"]
    assert (found["bytes_up"], found["auroc"]["low"]) == (100, None)


def test_exchanges_are_averaged_over_seeds_and_repeats_kept_apart(report: Report) -> None:
    def exchange(phase: str, seconds: float) -> dict[str, Any]:
        sizes = {"bytes_up": 10, "bytes_down": 4, "replies": 3, "failures": 0}
        return {"phase": phase, "round": 1, "seconds": seconds, **sizes}

    results = made_up.results(2)
    results[0]["phases"] = [exchange("join", 1.0), exchange("fit", 2.0), exchange("fit", 6.0)]
    results[1]["phases"] = [exchange("join", 3.0), exchange("fit", 4.0)]
    text = report.of(results).page.text
    assert "join 1 10 B 4 B 2.0 s 3 0 fit 1 10 B 4 B 3.0 s 3 0 fit 1 10 B 4 B 6.0 s 3 0" in text
    assert "join: 2.0 s; fit: 9.0 s" in text
    assert "fit 2 20 B 8 B 9.0 s 0" in text  # the table of phases


def test_bins_of_several_seeds_are_weighted_by_their_cases(report: Report) -> None:
    results = made_up.results(2)
    method(results[0], "auto")["curves"]["reliability"] = [[1.0, None], [1.0, None], [30, 0]]
    method(results[1], "auto")["curves"]["reliability"] = [[0.95, 0.1], [0.5, 0.0], [10, 0]]
    assert "0.99: 0.88 (40 cases)" in report.of(results).page.text


def test_rates_of_several_seeds_are_averaged_and_long_curves_thinned(report: Report) -> None:
    results = made_up.results(2)
    for result, curve in zip(results, ([[0.0, 0.0, 1.0], [0.0, 1.0, 1.0]], [[0.0, 1.0], [0.0, 1.0]]), strict=True):
        judged = method(result, "auto")
        result["methods"] = {"auto": judged}
        judged["by_site"] = {"north": {"balanced_accuracy": 0.5, "auroc": 0.5, "n": 4}}
        judged["curves"] = {"roc": {"north": curve}, "reliability": [[], [], []]}
    (points,) = lines(report.of(results).page)
    half = min(points, key=lambda point: abs(point[0] - (points[0][0] + points[-1][0]) / 2))
    assert half[1] == pytest.approx(points[-1][1] + (points[0][1] - points[-1][1]) / 4, abs=1.0)  # at (1 + 0.5) / 2
    axis = np.linspace(0, 1, 5000).tolist()
    method(results[0], "auto")["curves"]["roc"]["north"] = [axis, axis]
    (report.folder / "seed-1" / "result.json").unlink()
    (points,) = lines(report.of(results[:1]).page)
    assert len(points) <= 240 and points[0][0] < points[-1][0] and points[0][1] > points[-1][1]


def lines(page: Reader) -> list[list[tuple[float, ...]]]:
    """The points of the page's open lines."""
    drawn = [attrs for tag, attrs in page.seen if tag == "polyline"]
    return [[tuple(map(float, point.split(","))) for point in (attrs["points"] or "").split()] for attrs in drawn]


# --- the terminal and the folder


@pytest.mark.parametrize("width", [80, 140])
def test_the_table_is_whole_at_usual_widths(width: int, report: Report) -> None:
    report.monkeypatch.setenv("COLUMNS", str(width))
    text = report.of(made_up.results(2)).terminal
    assert "…" not in text and "624 kB" in text and "t-interval over 2 seeds" in text
    rows = {line.split()[0]: line.split() for line in text.splitlines() if line.strip()}
    assert set(made_up.QUALITY) <= set(rows)
    assert rows["auto"][-1] == "24"


def test_a_run_is_called_by_its_name_and_a_deployed_one_has_its_result_in_the_folder(report: Report) -> None:
    (report.folder / "result.json").write_text(json.dumps(made_up.result(0)))
    (report.folder / "config.json").write_text('{"name": "dermoscopy"}')
    assert report.called() == 0
    assert (report.metrics["name"], report.metrics["seeds"]) == ("dermoscopy", [0])
    assert "dermoscopy</h1>" in report.html


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda results: results.append(results[0]), "share a seed"),
        (lambda results: results[1].update(classes=["a", "b"]), "different classes"),
        (lambda results: results[1].update(schema=2), "schema"),
    ],
)
def test_results_that_do_not_fit_are_refused(spoil: Any, words: str, report: Report) -> None:
    results = made_up.results(2)
    spoil(results)
    report.store(results)
    assert words in report.refused
    assert not (report.folder / "report.html").exists()


def test_a_folder_without_results_is_refused(report: Report) -> None:
    assert "holds no seed" in report.refused
    (report.folder / "FAILED").write_text("RunError: x")
    assert "the run failed" in report.refused
    (report.folder / "result.json").write_text('{"schema": 1')
    assert "cannot be read as JSON" in report.refused
    assert report.called(report.folder / "missing") == 1
