"""The speed benchmark: which plain loop is the baseline, and which ratios are refused."""

from collections.abc import Sequence
from typing import Any

import pytest

from simulations.speed import Line, Loop, Spent, best_loop, printed


def test_a_ratio_below_its_floor_is_refused_and_fails(capsys: pytest.CaptureFixture[str]) -> None:
    slow = Line("cold / plain", 0.93, "<= 1.15", "9.3 s / 10.0 s", floor=True)
    fair, share = Line("cold / plain", 1.07, "<= 1.15", "", floor=True), Line("warm / plain", 0.04, "<= 0.05", "")
    for line, code in ((slow, 1), (fair, 0), (share, 0)):
        assert printed({"part": lambda line=line: [line]}, None, []) == code  # type: ignore[misc]
    head, *rows = capsys.readouterr().out.splitlines()[:2]
    assert head.startswith("ratio") and "the baseline was slower" in rows[0] and "9.3 s" not in rows[0]


def test_an_unknown_part_is_refused_before_anything_is_measured(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        printed({"features": lambda: pytest.fail("measured")}, None, ["features", "featurs"])
    assert ended.value.code == 2 and "'featurs' is none of features" in capsys.readouterr().err


def test_the_baseline_is_the_loop_with_the_least_cpu_and_hopeless_ones_are_given_up(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    seen: dict[Loop, int] = {}

    def forward(loop: Loop, images: Sequence[Any]) -> Spent:
        seen[loop] = max(seen.get(loop, 0), len(images))
        each = 50.0 if loop.threads == 2 else {1: 4.0, 4: 3.0, 16: 2.0, 64: 2.5}[loop.batch] + 0.1 * loop.workers
        return Spent(each * len(images), 0.5 * each * len(images))

    assert best_loop(forward, range(300)) == Loop(1, 1, 16)
    assert len(seen) == 16 and {count for loop, count in seen.items() if loop.threads == 2} == {8}
    rows = capsys.readouterr().out.splitlines()
    assert len(rows) == 17 and rows[3].split() == ["1", "1", "16", "2100.00", "1050.00"]
