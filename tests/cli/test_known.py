"""The public sets on the command line."""

from pathlib import Path

from medtl_core.data.catalog import catalog
from tests.cli.conftest import Call
from tests.formats import public


def test_the_list_says_of_each_set_what_it_is_and_how_to_come_by_it(call: Call) -> None:
    code, shown = call("data", "list")
    assert code == 0
    for entry in catalog().values():
        (line,) = [line for line in shown.splitlines() if line.split()[0] == entry.name]
        assert all(fact in line for fact in (entry.task.name, entry.hospitals, entry.licence, entry.obtain))
    _, shown = call("data", "list", "chexpert:Edema")
    assert "train.csv" in shown and "valid.csv" in shown and "Atelectasis ones, Edema ones; others ignore" in shown


def test_check_says_for_which_set_a_folder_was_taken(tmp_path: Path, call: Call) -> None:
    public.chexpert(tmp_path)
    code, shown = call("data", "check", tmp_path)
    assert code == 0 and "read as: chexpert\n" in shown
    code, shown = call("data", "check", tmp_path, "--as", "chexpert:Edema:zeros")
    assert code == 0 and "read as: chexpert:Edema:zeros" in shown and "licence: Stanford" in shown
