"""Memory by the number of hospitals: the same cases for few and many, and a limit that fails."""

from pathlib import Path
from typing import Any

import pytest

from simulations import scale


@pytest.mark.parametrize(("many", "code"), [(149.0, 0), (151.0, 1)])
def test_memory_that_grows_past_the_limit_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], many: float, code: int
) -> None:
    asked: list[tuple[str, int, int]] = []

    def measured(road: str, values: dict[str, Any]) -> dict[str, float]:
        rows = Path(values["data-path"]).read_text(encoding="ascii").splitlines()
        asked.append((road, values["sites"], sum(",train," in row for row in rows)))
        return {"megabytes": many if values["sites"] == 30 else 100.0, "cpu": 1.0, "seconds": 1.0}

    monkeypatch.setattr(scale, "measured", measured)
    words = ["--hospitals", "2", "30", "--rounds", "1", "--roads", "local", "ray"]
    assert scale.main(words) == code
    assert asked == [(road, hospitals, 120) for road in ("local", "ray") for hospitals in (2, 30)]
    assert f"{many / 100:.2f}" in capsys.readouterr().out


@pytest.mark.slow
def test_thirty_hospitals_take_little_more_memory_than_two(capsys: pytest.CaptureFixture[str]) -> None:
    assert scale.main(["--hospitals", "2", "30", "--rounds", "2"]) == 0
    assert [row.split()[:3] for row in capsys.readouterr().out.splitlines()[1:]] == [
        ["local", "2", "2"], ["local", "30", "2"],
    ]  # fmt: skip
