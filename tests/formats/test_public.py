"""Public sets in their publishers' layouts: recognised, read, and refused by name where something is off."""

import gzip
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from medtl_core.config import Settings
from medtl_core.data.catalog import catalog
from medtl_core.data.faults import Faults
from medtl_core.data.images import read_pictures
from medtl_core.data.source import Source, open_source
from medtl_core.errors import ConfigError, DataError
from medtl_core.formats import dialect
from medtl_core.formats.layouts import named_entry, recognise
from medtl_core.formats.report_labels import ABSENT, NOT_SAID, PRESENT, UNCERTAIN
from medtl_core.recipes.contamination import contamination
from medtl_core.values import MULTI_LABEL, UNKNOWN
from tests.formats import public
from tests.formats.public import FINDINGS
from tests.house import ROOT

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "data"
Layout = Callable[[Path], Path]
LAYOUTS: dict[str, Layout] = {
    "mimic_cxr": public.mimic,
    "chexpert": public.chexpert,
    "chest_xray14": public.chest14,
    "covid_cxr": public.covid,
    "isic2019": public.isic,
    "fed_isic2019": public.fed_isic,
    "ham10000": public.ham,
    "kermany_cxr": public.kermany_cxr,
    "kermany_oct": public.kermany_oct,
}


def opened(path: Path, data: str = "", faults: Faults | None = None) -> Source:
    return open_source(Settings(data=data, data_path=str(path)), faults)


def counted(source: Source) -> dict[str, int]:
    names, counts = np.unique(source.examples["split"], return_counts=True)
    return dict(zip(names.tolist(), counts.tolist(), strict=True))


@pytest.mark.parametrize(
    ("name", "splits", "patients", "sites", "left"),
    [
        ("mimic_cxr", {"train": 4, "val": 2, "test": 2}, 8, 1, 8),
        ("chexpert", {"train": 8, "test": 4}, 12, 1, 12),
        ("chest_xray14", {"train": 10, "test": 2}, 6, 1, 0),
        ("covid_cxr", {"train": 2, "test": 2}, 3, 1, 4),
        ("isic2019", {"train": 7, "test": 1}, 5, 1, 0),
        ("fed_isic2019", {"train": 13, "test": 6}, 13, 6, 5),
        ("ham10000", {"train": 8}, 4, 2, 0),
        ("kermany_cxr", {"train": 12, "test": 8}, 16, 1, 0),
        ("kermany_oct", {"train": 8, "test": 4}, 12, 1, 4),
    ],
)
def test_each_layout_is_recognised_and_read(
    tmp_path: Path, name: str, splits: dict[str, int], patients: int, sites: int, left: int
) -> None:
    source = opened(LAYOUTS[name](tmp_path))
    examples = source.examples
    assert (source.entry.name, source.faults, source.has_patients) == (name, (), True)
    assert (counted(source), len({*examples["patient"]}), len({*examples["site"]})) == (splits, patients, sites)
    assert all(Path(path).is_file() for path in examples["path"])
    told = [note.split() for note in source.notes if note.endswith("are left out.") and note[0].isdigit()]
    assert sum(int(words[0]) for words in told) == left
    assert opened(tmp_path, name).entry.name == name


def test_what_reports_say_is_kept_in_four_ways_and_one_finding_is_the_task(tmp_path: Path) -> None:
    public.chexpert(tmp_path / "chexpert")
    public.mimic(tmp_path / "mimic")
    edema = FINDINGS.index("Edema")
    for folder, name in (("chexpert", "chexpert"), ("mimic", "mimic_cxr")):
        found = opened(tmp_path / folder).examples["findings"]
        assert found.dtype == np.int8 and found.shape[1] == 14
        assert found[:4, edema].tolist() == [NOT_SAID, PRESENT, UNCERTAIN, ABSENT]
        assert opened(tmp_path / folder, f"{name}:any").examples["label"][:4].tolist() == [0, 1, 1, 1]
        for word, label in (
            ("Edema", [0, 1, 1, 0]),  # stated: uncertain counts as there
            ("Edema:ones", [0, 1, 1, 0]),
            ("Edema:zeros", [0, 1, 0, 0]),
            ("Edema:ignore", [0, 1, 0]),
            ("Fracture", [0, 0, 0]),  # not stated: left out
            ("No Finding", [1, 0, 0, 0]),
        ):
            source = opened(tmp_path / folder, f"{name}:{word}")
            assert source.examples.task.classes == ("absent", "present")
            assert source.examples["label"][: len(label)].tolist() == label, word
    assert any("uncertain of 'Edema'" in note for note in opened(tmp_path / "mimic", "mimic_cxr:Edema:ignore").notes)


def test_findings_in_one_cell_are_apart(tmp_path: Path) -> None:
    public.chest14(tmp_path)
    assert opened(tmp_path, "chest_xray14:any").examples["label"].tolist()[:3] == [0, 1, 1]
    assert opened(tmp_path, "chest_xray14:Emphysema").examples["label"].tolist()[:3] == [0, 1, 0]
    for column in ("findings", "labels"):
        assert opened(tmp_path).examples[column][:3].sum(axis=1).tolist() == [0, 2, 1]


@pytest.mark.parametrize("name", ["mimic_cxr", "chexpert", "chest_xray14"])
def test_all_findings_are_one_task_of_several_labels(tmp_path: Path, name: str) -> None:
    task = opened(LAYOUTS[name](tmp_path)).examples.task
    assert (task.kind, task.classes) == (MULTI_LABEL, catalog()[name].layout.findings) and len(task.classes) == 14


def test_an_uncertain_label_counts_as_the_stated_policy_says(tmp_path: Path) -> None:
    labels = opened(public.mimic(tmp_path)).examples["labels"]
    assert labels[:4, FINDINGS.index("Edema")].tolist() == [0, 1, 1, 0]  # ones; not named: absent
    assert labels[:4, FINDINGS.index("Fracture")].tolist() == [0, 0, 0, UNKNOWN]  # ignore
    assert labels[:4, FINDINGS.index("No Finding")].tolist() == [1, 0, 0, 0]


@pytest.mark.parametrize(
    ("word", "words"),
    [
        ("chexpert:Oedema", "did you mean 'Edema'"),
        ("chexpert:Edema:one", "ones or zeros, or ignore"),
        ("chexprt:Edema", "did you mean 'chexpert'"),
        ("ham10000:mel", "no such finding"),
    ],
)
def test_what_no_set_has_is_refused_with_the_nearest(word: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        named_entry(word)


def test_packed_tables_are_read_as_plain_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = opened(public.mimic(tmp_path / "plain")).examples
    packed = opened(public.mimic(tmp_path / "packed", ".csv.gz")).examples
    assert plain["label"].tolist() == packed["label"].tolist() and (plain["split"] == packed["split"]).all()
    file = tmp_path / "packed" / "mimic-cxr-2.0.0-split.csv.gz"
    whole = file.read_bytes()
    for content in (whole[: len(whole) // 2], whole[:12] + b"\0" * 40, b"no archive"):
        file.write_bytes(content)
        with pytest.raises(DataError, match=r"split\.csv\.gz is not a readable CSV file"):
            opened(tmp_path / "packed")
    monkeypatch.setattr(dialect, "MAX_UNPACKED", 1000)
    file.write_bytes(gzip.compress(b"dicom_id,split\n" + b"a,train\n" * 1000))
    with pytest.raises(DataError, match="unpacks to more than"):
        opened(tmp_path / "packed")


@pytest.mark.parametrize("name", [name for name in LAYOUTS if catalog()[name].layout.beside])
def test_a_file_that_the_layout_needs_and_lacks_is_named(tmp_path: Path, name: str) -> None:
    for missing in catalog()[name].layout.beside:
        folder = LAYOUTS[name](tmp_path / missing)
        (folder / missing).unlink()
        with pytest.raises(DataError, match=rf"lacks {missing}.*fetch it from https"):
            opened(folder)


@pytest.mark.parametrize("name", [name for name in LAYOUTS if "kermany" not in name])
def test_an_image_that_the_table_names_and_the_folder_lacks_costs_that_case(tmp_path: Path, name: str) -> None:
    folder = LAYOUTS[name](tmp_path)
    every = opened(folder).examples
    patients, counts = np.unique(every["patient"], return_counts=True)
    several = np.isin(every["patient"], patients[counts > 1])
    gone = int(np.flatnonzero(several)[-1]) if several.any() else len(every) - 1
    Path(every["path"][gone]).unlink()
    source = opened(folder, faults=(faults := Faults()))
    left = {*source.examples["path"].tolist()}
    assert left == {*every["path"].tolist()} - {every["path"][gone]}
    if several.any():
        assert [len(fault.places) for fault in faults.causes] == [1]
        assert "names no file that is there" in faults.causes[0].cause and "row " in faults.causes[0].places[0]


@pytest.mark.parametrize("name", ["mimic_cxr", "chexpert", "chest_xray14"])
def test_a_copy_with_some_of_the_patients_is_read_and_says_so(tmp_path: Path, name: str) -> None:
    folder = LAYOUTS[name](tmp_path)
    every = opened(folder).examples
    kept = every["patient"] == every["patient"][0]
    for path in every["path"][~kept]:
        Path(path).unlink()
    for path in folder.rglob("*lateral*"):
        path.unlink()
    source = opened(folder)
    assert (len(source.examples), source.faults) == (kept.sum(), ())
    assert any("of patients of whom no image is there are left out" in note for note in source.notes)


@pytest.mark.parametrize(
    ("name", "file", "right", "wrong"),
    [
        ("mimic_cxr", "mimic-cxr-2.0.0-metadata.csv", "ViewPosition", "View Position"),
        ("mimic_cxr", "mimic-cxr-2.0.0-chexpert.csv", "Atelectasis", "Atelektasis"),
        ("mimic_cxr", "mimic-cxr-2.0.0-split.csv", "split", "splits"),
        ("chexpert", "train.csv", "Frontal/Lateral", "Frontal_Lateral"),
        ("chexpert", "valid.csv", "Pleural Effusion", "Effusion"),
        ("chest_xray14", "Data_Entry_2017.csv", "Finding Labels", "Finding Label"),
        ("isic2019", "ISIC_2019_Training_GroundTruth.csv", "image", "image_name"),
        ("isic2019", "ISIC_2019_Training_Metadata.csv", "lesion_id", "lesion"),
        ("fed_isic2019", "train_test_split", "center", "centre"),
        ("ham10000", "HAM10000_metadata.csv", "lesion_id", "lesion"),
        ("covid_cxr", "metadata.csv", "patientid", "patient_id"),
    ],
)
def test_a_renamed_column_is_refused_with_the_nearest(
    tmp_path: Path, name: str, file: str, right: str, wrong: str
) -> None:
    path = LAYOUTS[name](tmp_path) / file
    path.write_text(path.read_text().replace(right, wrong, 1))
    with pytest.raises(DataError, match=rf"{file}: column '{right}' is missing.*did you mean '{wrong}'"):
        opened(tmp_path)


def test_two_layouts_in_one_folder_are_refused_by_their_names(tmp_path: Path) -> None:
    public.ham(public.isic(tmp_path))
    with pytest.raises(DataError, match="isic2019, ham10000"):
        opened(tmp_path)
    assert opened(tmp_path, "isic2019").entry.name == "isic2019"
    public.kermany_oct(public.kermany_cxr(tmp_path / "kermany"))
    with pytest.raises(DataError, match="kermany_cxr, kermany_oct"):
        opened(tmp_path / "kermany")


@pytest.mark.parametrize(
    ("name", "file", "right", "wrong", "words"),
    [
        ("chexpert", "train.csv", ",1.0", ",3.0", "'No Finding' holds no label in train.csv row 2"),
        (
            "chest_xray14",
            "Data_Entry_2017.csv",
            "Cardiomegaly|",
            "Kardiomegalie|",
            "no finding of the set in row",
        ),
        ("isic2019", "ISIC_2019_Training_GroundTruth.csv", "1.0,0.0", "1.0,1.0", "holds no class of task 'skin-les"),
        ("ham10000", "HAM10000_metadata.csv", ",nv,", ",nevus,", "'dx' holds no class of task 'skin-lesion' in row 2"),
        ("fed_isic2019", "train_test_split", ",train,", ",fit,", "'fold' holds no split in row 2"),
        ("ham10000", "HAM10000_metadata.csv", ",rosendahl", ",rosendahl,x", "the row is longer or shorter .* in row 2"),
    ],
)
def test_a_cell_that_is_off_costs_its_case(
    tmp_path: Path, name: str, file: str, right: str, wrong: str, words: str
) -> None:
    path = LAYOUTS[name](tmp_path) / file
    path.write_text(path.read_text().replace(right, wrong, 1))
    before = len(opened(LAYOUTS[name](tmp_path / "whole")).examples)
    source = opened(tmp_path, faults=(faults := Faults()))
    (fault,) = faults.causes
    assert (len(source.examples), len(fault.places)) == (before - 1, 1)
    assert re.search(words, str(fault)), str(fault)


@pytest.mark.parametrize(
    ("name", "file", "row", "words", "cases"),
    [
        ("mimic_cxr", "mimic-cxr-2.0.0-chexpert.csv", 1, "stands several times in mimic-cxr-2.0.0-chexpert.csv", 1),
        ("mimic_cxr", "mimic-cxr-2.0.0-split.csv", 1, "stands several times in mimic-cxr-2.0.0-split.csv", 1),
        ("isic2019", "ISIC_2019_Training_Metadata.csv", 1, "stands several times in ISIC", 1),
        ("chest_xray14", "train_val_list.txt", 1, "stands in both of train_val_list.txt and test_list.txt", 1),
        ("mimic_cxr", "mimic-cxr-2.0.0-split.csv", 0, "names what is not in mimic-cxr-2.0.0-split.csv", 1),
        ("isic2019", "ISIC_2019_Training_Metadata.csv", 0, "names what is not in ISIC_2019_Training_Metadata.csv", 1),
        ("chest_xray14", "train_val_list.txt", 0, "stands in neither of train_val_list.txt and test_list.txt", 1),
        ("mimic_cxr", "mimic-cxr-2.0.0-chexpert.csv", 0, "", 0),  # as eight studies of the real set: no label
    ],
)
def test_what_a_table_says_twice_or_not_at_all_costs_that_case(
    tmp_path: Path, name: str, file: str, row: int, words: str, cases: int
) -> None:
    folder = LAYOUTS[name](tmp_path)
    before, path = len(opened(folder).examples), folder / file
    lines = path.read_text().splitlines()
    more = (tmp_path / "test_list.txt").read_text().splitlines()[-1] if file.endswith(".txt") else lines[1]
    path.write_text("\n".join([*lines, more] if row else [lines[0], *lines[2:]]) + "\n")
    source = opened(folder, faults=(faults := Faults()))
    assert len(source.examples) == before - 1
    assert [len(fault.places) for fault in faults.causes] == [1] * cases
    assert words in "".join(map(str, faults.causes))


def test_a_file_without_a_patients_number_is_at_fault(tmp_path: Path) -> None:
    folder = public.kermany_oct(tmp_path)
    public.picture(folder / "train" / "CNV" / "copy.jpeg", 99)
    public.picture(folder / "train" / "CNV" / "more" / "CNV-77-1.jpeg", 98)
    opened(folder, faults=(faults := Faults()))
    assert [fault.places for fault in faults.causes] == [("train/CNV/more/CNV-77-1.jpeg",), ("train/CNV/copy.jpeg",)]


@pytest.mark.parametrize("name", ["mimic_cxr", "chexpert", "fed_isic2019", "kermany_oct"])
def test_what_becomes_of_a_patients_images_hangs_on_nobody_else(tmp_path: Path, name: str) -> None:
    folder = LAYOUTS[name](tmp_path)
    every = opened(folder).examples
    other = every["patient"][len(every) // 2]
    for path in every["path"][every["patient"] == other]:
        Path(path).unlink()
    left = opened(folder, faults=Faults()).examples
    rest = every.take(every["patient"] != other)
    for column in ("path", "label", "patient", "split"):
        assert left[column].tolist() == rest[column].tolist()


def test_own_folders_of_the_same_names_are_not_taken_for_a_public_set(tmp_path: Path) -> None:
    for name in ("NORMAL", "PNEUMONIA"):
        public.picture(tmp_path / "train" / name / "a.jpeg")
    public.write(tmp_path / "train.csv", ("path", "label", "patient_id"), [("a.png", "x", 1)])
    public.write(tmp_path / "metadata.csv", ("filename", "finding"), [("a.png", "x")])
    (tmp_path / "images").mkdir()
    assert recognise(tmp_path) is None


@pytest.mark.parametrize("size", ["", "_28", "_64", "_128", "_224"])
def test_medmnist_of_every_size_and_the_largest_of_several(tmp_path: Path, size: str) -> None:
    public.medmnist(tmp_path / "breastmnist.npz", (4, 4))
    public.medmnist(tmp_path / f"breastmnist{size}.npz", (9, 9))
    source = opened(tmp_path)
    assert source.entry.name == "breastmnist" and source.examples["image"].shape == (12, 9, 9, 1)
    assert f"Read from breastmnist{size}.npz." in source.notes


def test_volumes_of_medmnist_are_slices_between_their_neighbours_in_three_planes(tmp_path: Path) -> None:
    flags = [name for name in catalog() if name.endswith("mnist3d")]
    assert len(flags) == 6
    for name in flags:
        source = opened(public.medmnist(tmp_path / f"{name}.npz", (28, 28, 28), len(catalog()[name].task.classes)))
        assert source.entry.name == name and source.examples["image"].shape == (12, 28, 28, 28)
    volume = source.examples["image"][0]
    pictures = read_pictures(volume)
    assert len(pictures) == 12 and {picture.shape for picture in pictures} == {(28, 28, 3)}
    assert (pictures[0] == np.moveaxis(volume[2:5], 0, -1)).all()  # the first of four slices is the fourth of 28
    assert (pictures[11][:, :, 1] == volume[:, :, 24]).all()
    with pytest.raises(DataError, match="expected uint8"):
        opened(public.medmnist(tmp_path / "thin.npz", (28, 28, 5)))


def test_a_backbone_that_learnt_from_the_same_pictures_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from medtl_core.backbones.zoo import find_backbone
    from medtl_core.recipes import contamination as module

    record = find_backbone("lite0")
    for public_name, said in (("ISIC 2019", True), ("ham10000", True), ("ImageNet-1k", False)):
        seen = type(record)(**{**vars(record), "trained_on": (public_name,)})
        monkeypatch.setattr(module, "find_backbone", lambda name, seen=seen: seen)
        assert bool(contamination(Settings(), catalog()["fed_isic2019"])) is said


@pytest.mark.slow
@pytest.mark.skipif(not SHARED.exists(), reason="the real data sets are not on this machine")
def test_real_names_of_kermanys_x_rays_say_whose_they_are(tmp_path: Path) -> None:
    rows = [line.split(",") for line in (SHARED / "kermany_cxr224" / "metadata.csv").read_text().splitlines()[1:]]
    test = {patient for number, (*_, patient, _, _) in enumerate(rows) if number % 5 == 0}
    for name, label, _, patient, _, _ in rows:
        folder = tmp_path / ("test" if patient in test else "train") / label.upper()
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).symlink_to(SHARED / "kermany_cxr224" / "images" / name)
    examples = opened(tmp_path).examples
    whose = {name: patient for name, _, _, patient, _, _ in rows}
    groups = {(whose[Path(path).name], seen) for path, seen in zip(examples["path"], examples["patient"], strict=True)}
    assert len(examples) == 1800 and len(groups) == 1340 == len({*examples["patient"]})


@pytest.mark.skipif(not SHARED.exists(), reason="the real data sets are not on this machine")
def test_the_real_collection_of_covid_x_rays_is_read() -> None:
    source = opened(SHARED / "covid_cxr_cc")
    assert (source.entry.name, len(source.examples), int(source.examples["label"].sum())) == ("covid_cxr", 44, 20)


def test_the_page_has_every_layout_with_the_columns_that_are_read() -> None:
    page = (ROOT / "docs" / "data.md").read_text(encoding="utf-8").partition("\n## Public sets\n")[2]
    for name in LAYOUTS:
        layout = catalog()[name].layout
        assert f"| `{name}` |" in page
        (text,) = re.findall(rf"\n`{name}`: [^\n]*\n```\n(.*?)```", page, re.DOTALL) or [""]
        words = {word for line in text.splitlines() for word in line.split(",")}
        assert {*layout.columns} <= words
