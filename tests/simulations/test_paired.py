"""Differences are paired by seed, and a rival's luck does not count."""

from medtl_core.evaluation.judgement import Judgement
from medtl_core.evaluation.result import Cost, MethodResult
from simulations.paired import against_best, comparison


def record(accuracy: float | None) -> MethodResult:
    figures = {"balanced_accuracy": accuracy, "auroc": 0.9, "worst_site": None}
    return MethodResult("federated", Judgement(figures), Cost(bytes_up=1000, cpu_seconds=0.5))


RECORDS = {
    "base": {0: record(0.50), 1: record(0.60), 2: record(0.55)},
    "better": {0: record(0.60), 1: record(0.70), 2: record(0.65)},
    "same": {0: record(0.50), 1: record(0.60), 2: record(0.55)},
    "once": {7: record(0.4)},
}


def test_the_table_pairs_by_seed_and_marks_what_holm_leaves() -> None:
    lines = comparison(RECORDS, ["base", "absent"]).splitlines()
    assert lines[2].endswith("| - | - |")  # not against itself, nor against what was not run
    assert lines[3] == "| `better` | 3 | 65.0 ± 12.4 | 90.0 ± 0.0 | - | 1 kB | 0.50 | +10.0 ± 0.0* | - |"
    assert lines[4].endswith("| +0.0 ± 0.0 | - |")
    assert lines[5] == "| `once` | 1 | 40.0 | 90.0 | - | 1 kB | 0.50 | - | - |"


def test_a_lucky_rival_is_compared_where_it_was_not_picked() -> None:
    own = {0: 50.0, 1: 50.0, 2: 50.0, 3: 50.0}
    lucky = {0: 60.0, 1: 44.0, 2: 60.0, 3: 44.0}  # best on even seeds
    steady = {0: 49.0, 1: 49.0, 2: 49.0, 3: 49.0}  # best on odd seeds
    # lucky, picked on 0 and 2, loses by 6 on 1 and 3; steady, picked on 1 and 3, loses by 1 on 0 and 2
    assert against_best({"own": own, "lucky": lucky, "steady": steady}, "own") == "+3.5 ± 4.6 (steady / lucky)"


def test_too_little_to_compare_is_a_dash() -> None:
    few = {0: 50.0, 2: 50.0}
    for figures in ({"own": few, "other": few}, {"own": few}, {"other": few}, {"own": few, "other": {0: 1.0, 1: 1.0}}):
        assert against_best(figures, "own") == "-"
