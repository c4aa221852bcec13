from importlib.resources import files
from pathlib import Path

import pytest

from medtl_core.data.catalog import Entry, Layout, catalog, read_entries
from medtl_core.data.synthetic.built_in import BUILT_IN
from medtl_core.data.views import VIEWS
from medtl_core.errors import DataError
from medtl_core.formats.known import KINDS
from medtl_core.formats.layouts import POLICIES, holds, recognise
from medtl_core.values import Task


@pytest.mark.parametrize("entry", catalog().values(), ids=lambda entry: entry.name)
def test_entries_are_complete(entry: Entry) -> None:
    facts = [value for record in (entry, entry.layout) for value in vars(record).values() if value]
    assert {type(value) for value in facts} <= {str, bool, float, tuple, dict, Task, Layout}
    assert entry.layout.kind in (*KINDS, "records", "arrays", "medmnist", "built-in", "notes", "signals")
    assert {*entry.layout.uncertain} <= {*entry.layout.findings} and {*entry.layout.uncertain.values()} <= {*POLICIES}
    assert set(entry.layout.labels.values()) <= set(entry.task.classes)
    assert bool(entry.files) == (entry.layout.kind != "built-in")
    assert entry.title and entry.modality and entry.licence and entry.citation and entry.hospitals and entry.obtain
    assert entry.partition in ("natural", "dirichlet", "size", "even")
    assert entry.views[0] == "identity" and set(entry.views) <= set(VIEWS)
    assert entry.views == ("identity",) or not any("left" in name for name in entry.task.classes)  # nor mirrored
    assert len(set(entry.task.classes)) == len(entry.task.classes) >= 2
    assert entry.synthetic == (entry.name in (*BUILT_IN, "ct_phantom", "ai4i2020"))
    assert entry.url.startswith("https://") or entry.synthetic


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ('licence = "CC BY 4.0"', 'license = "CC BY 4.0"'),
        ('citation = "medtl, synthetic phantom"', ""),
        ('kind = "arrays"', 'kind = "arrays"\nlabl = "x"'),
        ("[set.nih_cxr64]", "[set.nih_cxr64"),
    ],
)
def test_a_bad_entry_is_refused(right: str, wrong: str) -> None:
    text = (files("medtl_core.data") / "catalog.toml").read_text(encoding="utf-8")
    assert list(read_entries(text)) == list(catalog())
    with pytest.raises(DataError, match="damaged"):
        read_entries(text.replace(right, wrong, 1))


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
    assert recognise(tmp_path) is catalog()["ham10000_sites"]
    assert not holds(catalog()["phantom"], tmp_path)
