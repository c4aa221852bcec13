from pathlib import Path

import pytest

from simulations.probe import measured


def test_a_run_is_measured_in_a_process_of_its_own(tmp_path: Path) -> None:
    lines = ["label,patient_id,site,split,age"]
    for number in range(40):
        split = "test" if number % 5 == 0 else "train"
        lines.append(f"{number % 2},{number},{'ab'[number // 20]},{split},{number % 2 + number / 99}")
    (tmp_path / "data.csv").write_text("\n".join(lines), encoding="utf-8")
    values = {"data": "", "data-path": str(tmp_path / "data.csv"), "backbone": "table", "sites": 2, "shots": 10}
    found = measured("local", {**values, "partition": "natural", "methods": "nearest-mean"})
    assert set(found) == {"seconds", "cpu", "megabytes"}
    assert found["seconds"] > 0
    assert found["cpu"] > 0
    assert 10 < found["megabytes"] < 1e5


def test_a_run_that_fails_is_told_with_its_error() -> None:
    with pytest.raises(SystemExit, match=r"(?s)the local probe failed:.*unknown setting 'sitez'"):
        measured("local", {"sitez": 2})
