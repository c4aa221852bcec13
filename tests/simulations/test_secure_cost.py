"""The table of the secure sum's cost: exact sums, also of the four that stay, and what a fault would look like."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from medtl_core.config import settings
from medtl_core.federation.private import terms_of
from medtl_core.federation.registry import find_method
from medtl_core.federation.secure_sum import STAGES
from simulations.secure_cost import COLUMNS, METHOD, Case, Cost, main, measure, table
from simulations.secure_sight import Sight, Truth, truth


@pytest.fixture(scope="module")
def costs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Cost]:
    folder = tmp_path_factory.mktemp("cost")
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
        assert [row.stage for row in costs[mode].rows] == list(STAGES)
        for row in costs[mode].rows:
            assert min(row.up, row.down, row.cpu, row.wall, row.seconds) > 0
            assert row.server >= 0
        (total,) = costs[mode].total
        assert total.up == pytest.approx(sum(row.up for row in costs[mode].rows))
        # masked numbers are as long as open ones; the rest is keys and shares
        numbers = 8 * costs[mode].truth.numbers
        assert numbers < costs[mode].rows[2].up < numbers + 500
        assert total.up - costs[mode].rows[2].up < 2500


def test_a_sum_that_is_not_the_sum_is_counted(tmp_path: Path) -> None:
    case = Case(3, "secure", "private-mean")
    kept: dict[str, tuple[Sight, dict[str, np.ndarray]]] = {}

    def keep(chosen: object, plan: object, sight: Sight, sums: dict[str, np.ndarray]) -> Truth:
        kept["it"] = sight, sums
        return truth(chosen, plan, sight, sums)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("simulations.secure_cost.truth", keep)
        cost = measure(case, tmp_path)
    assert cost.truth.differ == 0
    sight, sums = kept["it"]
    chosen = settings(case.settings(tmp_path))
    plan = find_method("private-mean").plan(terms_of(chosen, 2 * COLUMNS, 3))  # type: ignore[attr-defined]
    changed = {**sums, "counts": sums["counts"] + np.array([0.0, 2.0**-16, 0.0])}
    assert truth(chosen, plan, sight, changed).differ == 1


def test_the_table_has_a_line_for_every_stage_and_sum(costs: dict[str, Cost]) -> None:
    lines = table(list(costs.values())).splitlines()
    assert sum("secure_masked" in line for line in lines) == 2
    assert sum("total" in line for line in lines) == 2  # one stage alone needs none
    assert [line.split()[2:5] for line in lines if "<= 1e-4" in line] == [
        ["5", "303", "0"], ["5", "303", "0"], ["4", "303", "0"],
    ]  # fmt: skip


def test_the_command_fails_when_a_sum_is_wrong(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], costs: dict[str, Cost]
) -> None:
    right = costs["secure"]
    for differ, rounding, code in ((0, 1e-6, 0), (1, 1e-6, 1), (0, 1e-3, 1)):
        wrong = replace(right, truth=replace(right.truth, differ=differ, rounding=rounding))
        monkeypatch.setattr("simulations.secure_cost.measure", lambda case, folder, wrong=wrong: wrong)
        assert main(["--hospitals", "5"]) == code
    assert "secure_unmask" in capsys.readouterr().out


def test_a_method_that_is_not_private_is_refused(tmp_path: Path) -> None:
    assert Case(5, "open").method == METHOD
    with pytest.raises(SystemExit, match="not a private method"):
        measure(Case(3, "open", "ridge"), tmp_path)
