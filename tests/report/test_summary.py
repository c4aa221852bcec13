import copy
import json

import numpy as np
import pytest
from rich.console import Console
from scipy import stats

from medtl_core.errors import RunError
from medtl_core.report import summary
from tests.report import made_up


def test_several_seeds_give_the_t_interval() -> None:
    metrics = summary.aggregate(made_up.results(4))
    values = [one["methods"]["ridge"]["figures"]["auroc"] for one in made_up.results(4)]
    low, high = stats.t.interval(0.95, 3, np.mean(values), stats.sem(values))
    assert metrics["methods"]["ridge"]["auroc"] == pytest.approx({"mean": np.mean(values), "low": low, "high": high})
    assert metrics["interval"] == "95% t-interval over 4 seeds"
    assert metrics["seeds"] == [0, 1, 2, 3]


def test_one_seed_gives_its_patient_bootstrap() -> None:
    metrics = summary.aggregate(made_up.results(1))
    record = made_up.result(0)["methods"]["auto"]
    found = metrics["methods"]["auto"]["balanced_accuracy"]
    assert [found["low"], found["high"]] == record["intervals"]["balanced_accuracy"]
    assert metrics["methods"]["auto"]["ece"] == {"mean": record["figures"]["ece"], "low": None, "high": None}
    assert metrics["interval"] == "95% patient bootstrap of one seed"


def test_another_kind_of_interval_is_named() -> None:
    results = made_up.results(1)
    results[0]["methods"]["local"]["facts"] = {"interval": "t-interval over hospitals"}
    metrics = summary.aggregate(results)
    assert summary.interval_words(metrics).endswith("one seed; local: t-interval over hospitals")
    results.append(made_up.result(1))
    assert summary.interval_words(summary.aggregate(results)) == "95% t-interval over 2 seeds"


def test_undefined_figures_stay_undefined() -> None:
    results = made_up.results(3)
    metrics = summary.aggregate(results)
    assert metrics["methods"]["nearest-mean"]["worst_site"] == {"mean": None, "low": None, "high": None}
    results[0]["methods"]["nearest-mean"]["figures"]["worst_site"] = 0.5
    alone = summary.aggregate(results)["methods"]["nearest-mean"]["worst_site"]
    assert alone == {"mean": 0.5, "low": None, "high": None, "undefined": 2}


def test_the_gain_over_local_is_paired_by_seed() -> None:
    results = made_up.results(3)
    for number, one in enumerate(results):
        one["methods"]["local"]["figures"]["auroc"] = 0.6 + 0.1 * number
        one["methods"]["auto"]["figures"]["auroc"] = 0.65 + 0.1 * number
    metrics = summary.aggregate(results)
    gain = metrics["methods"]["auto"]["versus_local"]["auroc"]
    assert gain == pytest.approx({"mean": 0.05, "low": 0.05, "high": 0.05})
    assert "versus_local" not in metrics["methods"]["local"]


def test_costs_are_means() -> None:
    results = made_up.results(2)
    results[0]["methods"]["ridge"]["cost"] |= {"bytes_up": 100, "cpu_seconds": 1.0}
    results[1]["methods"]["ridge"]["cost"] |= {"bytes_up": 201, "cpu_seconds": 2.0}
    found = summary.aggregate(results)["methods"]["ridge"]
    assert (found["bytes_up"], found["cpu_seconds"], found["rounds"]) == (150, 1.5, 1)


def test_a_method_missing_in_one_seed_is_summarised_over_the_others() -> None:
    results = made_up.results(2)
    del results[1]["methods"]["ridge"]
    found = summary.aggregate(results)["methods"]["ridge"]["auroc"]
    assert found["mean"] == results[0]["methods"]["ridge"]["figures"]["auroc"]
    assert found["low"] is None


def test_metrics_are_strict_json_whatever_the_order_of_seeds() -> None:
    results = made_up.results(3)
    forwards, backwards = summary.aggregate(results), summary.aggregate(results[::-1])
    assert json.dumps(forwards, allow_nan=False) == json.dumps(backwards, allow_nan=False)
    assert list(forwards["methods"]) == list(made_up.QUALITY)


def test_results_are_not_changed() -> None:
    results = made_up.results(2)
    before = copy.deepcopy(results)
    summary.aggregate(results)
    assert results == before


@pytest.mark.parametrize(
    "spoil, words",
    [
        (lambda results: results.clear(), "no result"),
        (lambda results: results.append(results[0]), "share a seed"),
        (lambda results: results[1].update(classes=["a", "b"]), "different classes"),
        (lambda results: results[1].update(schema=2), "schema"),
    ],
)
def test_results_that_do_not_fit_are_refused(spoil, words) -> None:  # type: ignore[no-untyped-def]
    results = made_up.results(2)
    spoil(results)
    with pytest.raises(RunError, match=words):
        summary.aggregate(results)


def test_focus_is_auto_else_the_best_federated_method() -> None:
    results = made_up.results(1)
    assert summary.focus(summary.aggregate(results)) == "auto"
    del results[0]["methods"]["auto"]
    results[0]["methods"]["pooled-logistic"]["figures"]["balanced_accuracy"] = 0.99
    assert summary.focus(summary.aggregate(results)) == "discriminant"
    results[0]["methods"] = {"local": results[0]["methods"]["local"]}
    assert summary.focus(summary.aggregate(results)) == "local"


@pytest.mark.parametrize("width", [80, 100, 140])
def test_the_table_is_whole_at_usual_widths(width: int) -> None:
    console = Console(width=width, record=True, force_terminal=False)
    with console.capture() as capture:
        console.print(summary.summary_table(summary.aggregate(made_up.results(2))))
    text = capture.get()
    assert "…" not in text
    assert all(name in text for name in made_up.QUALITY)
    assert "624 kB" in text
    assert "t-interval over 2 seeds" in text
    rows = [line.split() for line in text.splitlines() if line.startswith("auto ")]
    assert rows[0][-1] == "24"
