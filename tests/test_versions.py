import os
from pathlib import Path

from medtl_core import versions


def test_versions_name_what_ran_and_no_machine() -> None:
    found = versions.versions()
    assert {"python", "platform", "numpy", "torch", "flwr"} <= set(found)
    assert os.uname().nodename not in found["platform"]


def test_the_commit_is_of_a_checkout_of_its_own_only(tmp_path: Path) -> None:
    assert versions._commit(tmp_path) is None
    (tmp_path / ".git").mkdir()
    assert versions._commit(tmp_path) is None
