from pathlib import Path

import pytest

from medtl_core.data.catalog import CATALOG, matches, recognise
from medtl_core.data.views import VIEWS
from medtl_core.errors import DataError


@pytest.mark.parametrize("entry", CATALOG.values(), ids=lambda entry: entry.name)
def test_entries_are_complete(entry) -> None:
    assert entry.title and entry.modality and entry.licence and entry.citation
    assert entry.partition in ("natural", "dirichlet", "size", "even")
    assert entry.views[0] == "identity" and set(entry.views) <= set(VIEWS)
    assert len(set(entry.task.classes)) == len(entry.task.classes) >= 2
    assert entry.synthetic == (entry.name == "phantom")
    assert entry.url.startswith("https://") or entry.synthetic


def test_left_and_right_organs_are_never_mirrored() -> None:
    assert "kidney-left" in CATALOG["organamnist"].task.classes
    assert CATALOG["organamnist"].views == ("identity",)


def test_several_sets_in_a_folder_are_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "pneumoniamnist.npz").touch()
    (tmp_path / "bloodmnist_64.npz").touch()
    with pytest.raises(DataError, match="pneumoniamnist, bloodmnist"):
        recognise(tmp_path)


def test_a_metadata_csv_with_another_header_is_not_taken_for_a_known_set(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "metadata.csv").write_text("file,dx\na.png,nv\n")
    assert recognise(tmp_path) is None
    (tmp_path / "metadata.csv").write_bytes(b"\xff\xfe\x00")
    assert recognise(tmp_path) is None
    (tmp_path / "metadata.csv").write_text("\ufeffimage_id,lesion_id,dx,site,split\n", encoding="utf-8")
    assert recognise(tmp_path) is CATALOG["ham10000_sites"]
    assert not matches(CATALOG["phantom"], tmp_path)
