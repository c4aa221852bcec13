"""The table of the secure sum's cost: exact sums, also of the four that stay, and what a fault would look like."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medtl_core.federation.secure_sum import STAGES
from medtl_core.privacy.gate import GRID
from simulations.secure_cost import Case, Cost, main, measure
from simulations.secure_sight import truth


@pytest.fixture(scope="module")
def compared() -> list[Any]:
    """What `truth` was told of each release."""
    return []


@pytest.fixture(scope="module")
def costs(tmp_path_factory: pytest.TempPathFactory, compared: list[Any]) -> dict[str, Cost]:
    folder = tmp_path_factory.mktemp("cost")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("simulations.secure_cost.truth", lambda *told: compared.append(told) or truth(*told))
        return {mode: measure(Case(5, mode), folder) for mode in ("open", "secure", "drop-out")}


def test_the_sum_is_exact_and_the_fixed_point_costs_less_than_a_ten_thousandth(costs: dict[str, Cost]) -> None:
    for mode, summed in {"open": 5, "secure": 5, "drop-out": 4}.items():
        found = costs[mode].truth
        assert (found.summed, found.numbers, found.differ) == (summed, 303, 0), mode
        assert 0 < found.rounding <= 1e-4
        assert found.noise == pytest.approx(1.0, abs=0.2)  # five standard errors of 303 numbers


def test_every_stage_is_priced(costs: dict[str, Cost]) -> None:
    assert [row.stage for row in costs["open"].rows] == ["private_statistics"]
    for mode in ("secure", "drop-out"):
        rows, (total,) = costs[mode].rows, costs[mode].total
        assert [row.stage for row in rows] == list(STAGES)
        assert all(min(row.up, row.down, row.cpu, row.wall, row.seconds) > 0 <= row.server for row in rows)
        assert total.up == pytest.approx(sum(row.up for row in rows))
        # masked numbers are as long as open ones; the rest is keys and shares
        numbers = 8 * costs[mode].truth.numbers
        assert numbers < rows[2].up < numbers + 700 and total.up - rows[2].up < 3000


def test_a_sum_that_is_not_the_sum_is_counted(costs: dict[str, Cost], compared: list[Any]) -> None:
    for chosen, plan, sight, sums in compared:
        unit = plan.steps[0].sensitivity["counts"] * GRID
        changed = {**sums, "counts": sums["counts"] + np.array([0.0, unit, 0.0])}
        assert truth(chosen, plan, sight, changed).differ == 1


def test_the_command_prints_every_stage_and_fails_when_a_sum_is_wrong(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], costs: dict[str, Cost]
) -> None:
    for differ, rounding, code in ((1, 1e-6, 1), (0, 1e-3, 1), (0, 1e-6, 0)):
        monkeypatch.setattr("simulations.secure_cost.measure", lambda case, folder: costs[case.mode])
        changed = replace(costs["secure"].truth, differ=differ, rounding=rounding)
        with monkeypatch.context() as patch:
            patch.setitem(costs, "secure", replace(costs["secure"], truth=changed))
            assert main(["--hospitals", "5"]) == code
    lines = [line.split(" | ") for line in capsys.readouterr().out.split("\n\n")[-1].splitlines()[2:]]
    assert {mode: counts for _, mode, *counts, _, _ in lines} == {
        "open": ["5", "303", "0"], "secure": ["5", "303", "0"], "drop-out": ["4", "303", "0"],
    }  # fmt: skip


def test_a_method_that_is_not_private_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="not a private method"):
        measure(Case(3, "open", "ridge"), tmp_path)
