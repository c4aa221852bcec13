"""The benchmark's cells: all of them once, first seeds first, and none that is done."""

from pathlib import Path

from simulations import methods
from simulations.methods import DATA, GROUPS, Cell, Group, cells, is_done

SMALL = Group("small", "cached features, 224 pixels", ("ridge", "fedavg-2"), 2)


def test_every_cell_once_and_first_seeds_first() -> None:
    found = list(cells([SMALL], [5, 10]))
    assert len(found) == len({cell.folder(Path("out")) for cell in found}) == 2 * 2 * len(DATA)
    assert [cell.seed for cell in found] == sorted(cell.seed for cell in found)
    apart = list(cells([Group("small", SMALL.family, SMALL.methods, 1, apart=True)], [5]))
    assert {cell.methods for cell in apart} == {("ridge",), ("fedavg-2",)}


def test_every_method_of_the_benchmark_is_known() -> None:
    from medtl_core.registry import find_method

    for group in GROUPS:
        assert group.family in methods.FAMILIES
        for name in group.methods:
            assert find_method(name).name == name


def test_settings_of_a_cell_name_everything(tmp_path: Path) -> None:
    cell = Cell(SMALL, "ham10000_sites", 25, 3, ("ridge",))
    values = cell.settings(tmp_path)
    assert (values["shots"], values["seed"], values["methods"], values["sites"]) == (25, 3, "ridge", 10)
    assert Path(str(values["data-path"])).is_absolute()


def test_what_is_done_is_not_done_again(tmp_path: Path) -> None:
    folder = Cell(SMALL, "ham10000_sites", 5, 0, SMALL.methods).folder(tmp_path)
    assert not is_done(folder)
    folder.mkdir(parents=True)
    (folder / "metrics.json").write_text("{}")
    assert is_done(folder)


def test_a_failed_cell_is_told_and_fails_the_benchmark(tmp_path: Path, capsys) -> None:  # type: ignore[no-untyped-def]
    failed = methods.run(
        [Group("small", SMALL.family, ("ridge",), 1)], [5], tmp_path / "nowhere", tmp_path / "out", 1.0
    )
    assert failed == len(DATA)
    assert capsys.readouterr().out.count("FAILED") == len(DATA)
