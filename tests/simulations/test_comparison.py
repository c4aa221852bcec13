"""The table of methods: means, paired differences and Holm's marks from literal records."""

import pytest

from simulations.comparison import compare, markdown


def record(accuracy: float | None, bytes_up: int = 1000) -> dict:
    figures = {"balanced_accuracy": accuracy, "auroc": 0.9, "worst_site": None}
    return {"figures": figures, "cost": {"bytes_up": bytes_up, "cpu_seconds": 0.5}}


RECORDS = {
    "base": {0: record(0.50), 1: record(0.60), 2: record(0.55)},
    "better": {0: record(0.60), 1: record(0.70), 2: record(0.65)},
    "same": {0: record(0.50), 1: record(0.60), 2: record(0.55)},
    "once": {7: record(0.4)},
}


def test_differences_are_paired_by_seed() -> None:
    rows = {row.method: row for row in compare(RECORDS, ["base", "absent"])}
    pair, p = rows["better"].versus["base"]
    assert pair.mean == pytest.approx(0.1)
    assert p < 0.05
    assert rows["same"].versus["base"][0].mean == 0.0
    assert rows["same"].versus["base"][1] == 1.0
    assert rows["base"].versus == {}
    assert rows["once"].versus == {}
    assert rows["better"].figures["balanced_accuracy"][0] == pytest.approx(0.65)
    assert "worst_site" not in rows["better"].figures


def test_the_table_marks_what_holm_leaves() -> None:
    lines = markdown(compare(RECORDS, ["base"]), ["base"]).splitlines()
    assert lines[3].startswith("| `better` | 3 | 65.0 ± 12.4 | 90.0 ± 0.0 | - | 1 kB | 0.50 | +10.0 ± 0.0* |")
    assert lines[4].endswith("| +0.0 ± 0.0 |")
    assert lines[5].startswith("| `once` | 1 | 40.0 | 90.0 |")
