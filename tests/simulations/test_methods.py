"""The benchmark's cells: all of them once, first seeds first, and none that is done."""

from pathlib import Path

import pytest

from medtl_core.config import settings
from medtl_core.heads.crossval import TEMPERATURES
from medtl_core.sweep.job_queue import Job
from simulations import methods
from simulations.experiments import work_through
from simulations.methods import GROUPS, SHOTS, Group, cells

SMALL = Group("small", "cached features, 224 pixels", ("ridge", "fedavg-2"), 2)


def test_every_cell_once_and_first_seeds_first() -> None:
    found = list(cells([SMALL], [5, 10]))
    assert len(found) == len({cell.folder(Path("out")) for cell in found}) == 2 * 2 * len(SHOTS)
    assert [cell.seed for cell in found] == sorted(cell.seed for cell in found)
    assert {(cell.data, cell.shots) for cell in cells(GROUPS) if cell.group.name == "default"} >= {("heart_uci", 40)}
    apart = list(cells([Group("small", SMALL.family, SMALL.methods, 1, apart=True)], [5]))
    assert {cell.methods for cell in apart} == {("ridge",), ("fedavg-2",)}


def test_every_method_of_the_benchmark_is_known() -> None:
    from medtl_core.federation.registry import find_method

    for group in GROUPS:
        assert group.family in methods.FAMILIES
        for name in group.methods:
            assert find_method(name).name == name


def test_what_the_default_sends_is_counted() -> None:
    cases, classes, width, folds, penalties, strengths = 8, 2, 40, 5, 5, 9
    table = methods.sent((cases,), classes=classes, width=width)
    for sizes, name, candidates in ((1, "128", 3), (2, "128+224", 4)):
        sums = 8 * (folds * classes + cases * classes) + 4 * cases * (sizes * width + 1)
        gradients = 5 * (8 * (folds + 1) + 4 * cases * folds * sizes * penalties * classes)
        verdicts = 8 * sizes * (penalties + strengths) * classes * (len(TEMPERATURES) + 1) + 8 * candidates * (
            classes + 1
        )
        assert f"| `auto`, {name} pixels | {(sums + gradients + verdicts) / 1e3:,.0f} kB |" in table


def test_a_failed_run_is_told_and_fails_the_benchmark(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = list(cells([Group("small", SMALL.family, ("ridge",), 1)], [5]))
    jobs = [Job(cell.folder(tmp_path / "out"), settings(cell.settings(tmp_path / "nowhere"))) for cell in found]
    assert work_through(jobs, "small", 1.0) == 1
    assert capsys.readouterr().out.count("FAILED") == len(SHOTS)
