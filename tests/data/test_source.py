import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medtl_core.config import Settings
from medtl_core.data.faults import Faults
from medtl_core.data.images import decode
from medtl_core.data.leak import check_leaks
from medtl_core.data.partition import partition
from medtl_core.data.source import open_source
from medtl_core.data.synthetic.built_in import phantom_patients
from medtl_core.data.synthetic.phantom import phantom
from medtl_core.errors import ConfigError, DataError
from medtl_core.formats import arrays
from medtl_core.formats.image_check import check_images
from tests.manifest import write_manifest

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "data"
needs_shared = pytest.mark.skipif(not SHARED.exists(), reason="the real data sets are not on this machine")


def opened(path: Path | str, **changes: str | int):
    return open_source(Settings(data="", data_path=str(path)).replace(**changes))


def picture(path: Path, value: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((4, 4), value, dtype=np.uint8)).save(path)


def medmnist(path: Path, **changes: np.ndarray) -> Path:
    held: dict[str, np.ndarray] = {}
    for split, count in (("train", 6), ("val", 2), ("test", 4)):
        held[f"{split}_images"] = np.arange(count * 16, dtype=np.uint8).reshape(count, 4, 4)
        held[f"{split}_labels"] = (np.arange(count) % 2)[:, None].astype(np.uint8)
    np.savez_compressed(path, **{**held, **changes})
    return path


def test_the_phantom_grows_with_what_is_asked() -> None:
    asked = Settings(image_size=32, sites=12, shots=40)
    source = open_source(asked)
    assert source.entry.name == "phantom" and source.entry.synthetic and "Synthetic" in source.notes[0]
    for kind in ("natural", "dirichlet", "size", "even"):
        parts = partition(source.examples, asked.replace(partition=kind))
        assert len(parts.sites) == asked.sites
        check_leaks(source.examples, parts.sides())


def test_a_thousand_hospitals_are_sized_without_drawing() -> None:
    assert phantom_patients(Settings()) == phantom_patients(Settings(shots=0)) == 480
    assert 16_000 < phantom_patients(Settings(sites=1000, shots=20)) < 30_000


@pytest.mark.parametrize(
    ("name", "data", "error", "words"),
    [
        ("", "fantom", ConfigError, "did you mean 'phantom'"),
        ("", "ham10000_sites", ConfigError, "needs data-path"),
        ("", "", ConfigError, "no data named"),
        ("gone", "", DataError, "gone does not exist"),
        (".", "phantom", DataError, r"does not hold phantom: expected manifest.csv"),
        (".", "ham10000_sites", DataError, r"does not hold ham10000_sites: expected manifest.csv or metadata.csv"),
        (".", "", DataError, "no layout that medtl reads; there: 1 file of no kind"),
        ("notes.txt", "", DataError, r"of no kind that is read \(.txt\)"),
    ],
)
def test_what_is_not_named_or_not_there_is_refused(
    tmp_path: Path, name: str, data: str, error: type[Exception], words: str
) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(error, match=words):
        opened(tmp_path / name if name else "", data=data)


def test_a_manifest_of_a_named_set_takes_its_classes_and_views(tmp_path: Path) -> None:
    given = phantom(size=32, patients=10)
    write_manifest(given.take(given["label"] == 0), tmp_path / "site")
    (tmp_path / "site" / "task.json").unlink()
    for path in (tmp_path / "site", tmp_path / "site" / "manifest.csv"):
        source = opened(path, data="phantom")
        assert source.entry.name == "phantom" and source.examples.task == given.task
        assert set(source.examples["label"]) == {0}
    with pytest.raises(DataError, match="all cases are of one class"):
        opened(tmp_path / "site")
    with pytest.raises(DataError, match="'label' holds no class of task 'skin-lesion'"):
        opened(tmp_path / "site", data="ham10000_sites")


def test_an_own_manifest_states_its_views_in_task_json_and_a_table_is_read_as_one(tmp_path: Path) -> None:
    (tmp_path / "manifest.csv").write_text("path,label,patient_id\na.png,x,1\nb.png,y,1\n")
    for name in "ab":
        picture(tmp_path / f"{name}.png")
    assert opened(tmp_path).entry.views == ("identity",)
    (tmp_path / "task.json").write_text('{"name": "t", "classes": ["x", "y"], "views": ["identity", "flip-h"]}')
    source = opened(tmp_path)
    assert source.entry.views == ("identity", "flip-h") and source.entry.task.classes == ("x", "y")
    (tmp_path / "manifest.csv").write_text("label,patient_id,age\nx,1,40\ny,2,\n")
    for backbone in ("table", "lite0"):  # the header says what it is
        assert opened(tmp_path, backbone=backbone).examples["table"].shape == (2, 1)
    with pytest.raises(DataError, match="'path' is missing"):
        opened(tmp_path, backbone="lite0+table")


def test_without_a_test_split_the_same_quarter_of_every_site_is_held_out(tmp_path: Path) -> None:
    for number in (0, 1):
        picture(tmp_path / f"{number}.png")
    rows = [f"{i % 2}.png,{'xy'[i % 2]},{i // 2 if i < 40 else i},{'ab'[i >= 40]}" for i in range(80)]
    (tmp_path / "manifest.csv").write_text("path,label,patient_id,site\n" + "\n".join(rows) + "\n")
    first, second = (opened(tmp_path, seed=seed).examples for seed in (0, 1))
    assert (first["split"] == second["split"]).all()
    held = first["split"] == "test"
    assert [int((held & (first["site"] == site)).sum()) for site in "ab"] == [10, 10]
    assert not set(first["patient"][held]) & set(first["patient"][~held])
    assert "held out" in opened(tmp_path).notes[-1]
    assert not (opened(tmp_path, test_path="/elsewhere").examples["split"] == "test").any()


def test_class_folders_with_and_without_splits(tmp_path: Path) -> None:
    for split, name in (("train", "fit"), ("train", "sick"), ("val", "fit"), ("test", "sick")):
        picture(tmp_path / "splits" / split / name / "0.png")
        picture(tmp_path / "plain" / name / f"{split}.PNG")
    (tmp_path / "splits" / "train" / ".cache").mkdir()
    (tmp_path / "plain" / "fit" / "readme.txt").touch()
    source = opened(tmp_path / "splits")
    assert source.examples.task.classes == ("fit", "sick") and source.entry.title == "own data: splits"
    assert source.examples["split"].tolist() == ["train", "train", "val", "test"]
    assert source.examples["patient"].tolist()[0] == str(Path("train") / "fit" / "0.png")
    plain = opened(tmp_path / "plain")
    assert plain.examples["label"].tolist() == [0, 0, 1, 1] and len(np.unique(plain.examples["patient"])) == 4
    check_images(plain.examples, range(4), faults := Faults())
    assert faults.causes == ()


def test_bad_class_folders_are_refused(tmp_path: Path) -> None:
    for name in ("a/train/normal", "a/test/norml", "b/test/normal", "c/one"):
        picture(tmp_path / name / "0.png")
    (tmp_path / "c" / "two").mkdir()
    (tmp_path / "c" / "two" / "scan.dcm").touch()
    wanted = {
        "a": r"lies in no folder of a class.* test/norml/0.png; did you mean 'normal'",
        "b": "no train",
        "c": r"no image .* two/scan.dcm; convert it; its name ends in '\.dcm'",
    }
    for name, words in wanted.items():
        with pytest.raises(DataError, match=words):
            opened(tmp_path / name)


def test_medmnist_by_folder_file_and_name(tmp_path: Path) -> None:
    path = medmnist(tmp_path / "pneumoniamnist_64.npz")
    for source in (opened(tmp_path), opened(path), opened(tmp_path, data="pneumoniamnist")):
        assert source.entry.name == "pneumoniamnist" and source.examples["image"].shape == (12, 4, 4, 1)
        assert source.examples["split"].tolist() == ["train"] * 6 + ["val"] * 2 + ["test"] * 4
        assert source.examples["label"].dtype == np.int64
    own = opened(medmnist(tmp_path / "ours.npz"))
    assert own.entry.name == "own" and own.examples.task.classes == ("0", "1")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"val_labels": np.array([[0, 1], [1, 1]])}, "several labels"),
        ({"val_labels": np.array([7, -1])}, "no class of task .* in case 7, case 8;"),
        ({"val_labels": np.array([0.5, 1])}, "class numbers are needed"),
        ({"val_labels": np.array([0])}, "do not match"),
        ({"val_images": np.zeros((2, 5, 5), dtype=np.uint8)}, "different shapes"),
        ({f"{s}_images": np.zeros((1, 3, 3, 3, 3), np.uint8) for s in ("train", "val", "test")}, "expected uint8"),
        ({"val_images": np.array([{}], dtype=object)}, "not a readable .npz"),
    ],
)
def test_bad_medmnist_files_are_refused(tmp_path: Path, changes: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(DataError, match=message):
        opened(medmnist(tmp_path / "pneumoniamnist.npz", **changes))


def test_damaged_incomplete_and_huge_archives_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = medmnist(tmp_path / "bloodmnist.npz")
    monkeypatch.setattr(arrays, "MAX_BYTES", 100)
    with pytest.raises(DataError, match="smaller image size"):
        opened(path)
    monkeypatch.undo()
    monkeypatch.setattr(arrays, "MAX_SHRUNK_BYTES", 100)
    opened(path)
    np.savez_compressed(tmp_path / "shrunk.npz", train_images=np.zeros((1000, 28, 28), np.uint8))
    with pytest.raises(DataError, match="smaller image size"):
        opened(tmp_path / "shrunk.npz")
    monkeypatch.undo()
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(DataError, match=r"not a readable .npz"):
        opened(path)
    np.savez(path, train_images=np.zeros(1))
    with pytest.raises(DataError, match="'train_labels' is missing"):
        opened(path)
    head = io.BytesIO()  # a header that lies about its size allocates nothing
    np.lib.format.write_array_header_1_0(head, {"descr": "|u1", "fortran_order": False, "shape": (10**12, 4, 4)})
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("train_images.npy", head.getvalue())
    with pytest.raises(DataError, match="GiB unpacked is too much"):
        opened(path)


@needs_shared
@pytest.mark.parametrize(
    ("name", "cases", "sites", "test"),
    [
        ("ham10000_sites", 2034, 3, 408),
        ("kermany_cxr224", 1800, 1, 370),
        ("nih_cxr64", 1000, 1, 237),
        ("idrid_fundus", 507, 1, 102),
    ],
)
def test_real_image_sets_are_recognised_and_read(name: str, cases: int, sites: int, test: int) -> None:
    source = opened(SHARED / name)
    examples, held = source.examples, source.examples["split"] == "test"
    assert source.entry.name == name
    assert (len(examples), len(np.unique(examples["site"])), held.sum()) == (cases, sites, test)
    assert set(examples["label"].tolist()) == set(range(len(examples.task.classes)))
    check_leaks(examples, {"train": np.flatnonzero(~held), "test": np.flatnonzero(held)})
    image = examples["path"][0] if "path" in examples.columns else examples["image"][0]
    assert decode(image).shape == ((224, 224, 3) if "path" in examples.columns else (64, 64, 3))


@needs_shared
def test_heart_table_keeps_gaps_and_positives_per_hospital() -> None:
    examples = opened(SHARED / "heart_uci", backbone="table").examples
    present = {site: int(examples["label"][examples["site"] == site].sum()) for site in np.unique(examples["site"])}
    assert present == {"cleveland": 139, "hungarian": 106, "switzerland": 115, "va": 149}
    table = examples["table"]
    assert table.shape == (920, 22) and np.isnan(table).any()
    swiss = examples["site"] == "switzerland"
    assert np.isnan(table[swiss, 7]).all()  # cholesterol 0 there means not measured
    assert np.nanmax(np.abs(table)) < 10
