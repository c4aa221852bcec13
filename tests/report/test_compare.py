"""`medtl compare`, `medtl report --hospital` and `--prevalence`: on stored results and on real runs."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from medtl_core.cli import app as cli
from medtl_core.cli.simulate import simulate
from medtl_core.config import settings
from medtl_core.flower.run import RunPlan
from medtl_core.report.compare import compare
from tests.report import made_up
from tests.report.reading import check_whole

ROOT = Path(__file__).resolve().parents[2]


def store(folder: Path, results: list[dict[str, Any]]) -> Path:
    for result in results:
        place = folder / f"seed-{result['seed']}"
        place.mkdir(parents=True)
        (place / "result.json").write_text(json.dumps(result))
    return folder


def called(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    monkeypatch.setattr(sys, "argv", ["medtl", *map(str, words)])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    return int(stopped.value.code or 0)


def better(results: list[dict[str, Any]], by: float, **words: Any) -> list[dict[str, Any]]:
    """The same results with AUROCs that are larger by so much, more at later seeds, and other settings."""
    for number, result in enumerate(results):
        result["settings"] |= words
        for method in result["methods"].values():
            method["figures"]["auroc"] = min(method["figures"]["auroc"] + by + 0.001 * number, 1.0)
    return results


def test_runs_of_several_seeds_are_paired_by_seed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    a = store(tmp_path / "a", made_up.results(3))
    b = store(tmp_path / "b", better(made_up.results(3), 0.02, backbone="other"))
    assert called(monkeypatch, "compare", a, b) == 0
    shown = capsys.readouterr().out
    page = check_whole((a / "compare.html").read_text())
    gains = np.array([0.02, 0.021, 0.022])
    low, high = stats.t.interval(0.95, 2, gains.mean(), stats.sem(gains))
    for text in (shown, page.text):
        assert "paired by seed" in text and "+0.021" in text and f"+{low:.3f} to +{high:.3f}" in text
        assert "backbone" in text and "other" in text and "shots" not in text.partition("What differs")[2][:400]
    assert "secret" not in (a / "compare.html").read_text()


def test_runs_on_other_cases_are_not_paired_and_other_classes_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    a = store(tmp_path / "x" / "run", made_up.results(3))
    b = store(tmp_path / "y" / "run", better(made_up.results(3), 0.02, **{"leave-out": "vidir"}))
    assert called(monkeypatch, "compare", a, b, "--out", tmp_path / "page.html") == 0
    shown = capsys.readouterr().out
    assert "The runs are not paired" in shown and "run (1)" in shown and "run (2)" in shown
    assert (tmp_path / "page.html").is_file() and not (a / "compare.html").exists()
    other = made_up.results(1)
    other[0]["classes"] = ["a", "b"]
    assert called(monkeypatch, "compare", a, store(tmp_path / "z", other)) == 1
    assert called(monkeypatch, "compare", a) == 1
    assert "other classes" in capsys.readouterr().err


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The same test cases by two choices of features, scores kept."""
    places = []
    for tap in ("4", "10"):
        words = {"data": "phantom", "sites": 4, "shots": 24, "image-size": 32, "features": tap, "bootstrap": 5}
        chosen = settings({**words, "methods": "discriminant,auto", "keep-scores": True})
        places.append(tmp_path_factory.mktemp("runs") / f"tap{tap}")
        simulate(RunPlan(chosen, 1, 1, False, places[-1], ROOT, "t"))
    return places[0], places[1]


def test_runs_that_kept_the_scores_of_the_same_cases_are_paired_by_case(runs: tuple[Path, Path]) -> None:
    found = compare(runs)
    assert found.against is not None and "the very same test cases" in found.remark
    areas = [json.loads((run / "seed-0" / "clinical.json").read_text())["methods"] for run in runs]
    told = {row.name: float(row.cells[0].value.replace("−", "-")) for row in found.against.rows}  # noqa: RUF001
    for name in ("discriminant", "auto"):
        apart = areas[1][name]["area"] - areas[0][name]["area"]
        assert told[f"{name}, tap10"] == pytest.approx(apart, abs=6e-4)
    alike = compare([runs[0], runs[0]])
    assert alike.against is not None and {row.cells[2].value for row in alike.against.rows} == {"1.000"}
    assert "Nothing differs" in alike.differs.caption


def test_a_hospitals_page_names_no_other_hospital(
    runs: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    result = json.loads((runs[0] / "seed-0" / "result.json").read_text())
    own, *others = result["methods"]["auto"]["by_site"]
    assert called(monkeypatch, "report", runs[0], "--hospital", own) == 0
    html = (runs[0] / f"hospital-{own}.html").read_text()
    page = check_whole(html)
    assert own in page.text and others and not any(name in html for name in others)
    assert f"{result['methods']['auto']['figures']['balanced_accuracy']:.3f}" in page.text
    assert f"{result['methods']['auto']['by_site'][own]['balanced_accuracy']:.3f}" in page.text
    capsys.readouterr()
    assert called(monkeypatch, "report", runs[0], "--hospital", "nowhere") == 1
    assert "no test case of 'nowhere'" in capsys.readouterr().err


def test_predictive_values_are_told_for_the_prevalence_stated(
    runs: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert called(monkeypatch, "report", runs[0], "--prevalence", "consolidation=0.03") == 0
    result = json.loads((runs[0] / "seed-0" / "result.json").read_text())
    table = np.array(result["methods"]["auto"]["confusion"])
    cls = result["classes"].index("consolidation")
    found, rest = table[cls, cls] / table[cls].sum(), np.delete(table, cls, axis=0)
    false = rest[:, cls].sum() / rest.sum()
    ppv = found * 0.03 / (found * 0.03 + false * 0.97)
    assert f"{ppv:.3f} / " in check_whole((runs[0] / "report.html").read_text()).text
    assert called(monkeypatch, "report", runs[0], "--prevalence", "flu=0.03") == 1
    assert called(monkeypatch, "report", runs[0], "--prevalence", "normal=1.5") == 1
    assert "no class of this run" in capsys.readouterr().err


def test_the_report_asks_in_the_order_of_a_clinician(runs: tuple[Path, Path]) -> None:
    from medtl_core.report.folder import write_report

    write_report(runs[0])
    html = (runs[0] / "report.html").read_text()
    page = check_whole(html)
    order = ["classes", "sites", "thresholds", "methods", "calibration", "rounds", "terms", "run"]
    places = [html.index(f'<h2 id="{name}"') for name in order]
    assert places == sorted(places)
    links = [attrs["href"] for tag, attrs in page.seen if tag == "a" and (attrs.get("href") or "").startswith("#")]
    assert {f"#{name}" for name in order} <= set(links) and {link[1:] for link in links if link} <= set(page.ids)
    assert html.index("<details", html.index('id="run"')) < html.index("Settings</caption>")
    begun = json.loads((runs[0] / "config.json").read_text())["begun"]
    assert begun in page.text and "No threshold was set" in page.text and "Holm" in page.text
