from pathlib import Path

import pytest

from simulations.probe import measured
from tests.manifest import write_table


@pytest.mark.slow
def test_a_run_is_measured_in_a_process_of_its_own(tmp_path: Path) -> None:
    path = write_table(tmp_path / "data.csv", "ab")
    values = {"data": "", "data-path": str(path), "backbone": "table", "sites": 2, "shots": 10}
    found = measured("local", {**values, "partition": "natural", "methods": "nearest-mean"})
    assert set(found) == {"seconds", "cpu", "megabytes"}
    assert found["seconds"] > 0 and found["cpu"] > 0
    assert 10 < found["megabytes"] < 1e5


def test_a_run_that_fails_is_told_with_its_error() -> None:
    with pytest.raises(SystemExit, match=r"(?s)the local probe failed:.*unknown setting 'sitez'"):
        measured("local", {"sitez": 2})
