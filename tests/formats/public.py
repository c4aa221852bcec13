"""Tiny folders laid out as the publishers of public sets do."""

import gzip
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

FINDINGS = (
    "No Finding", "Enlarged Cardiomediastinum", "Cardiomegaly", "Lung Opacity", "Lung Lesion", "Edema", "Consolidation",
    "Pneumonia", "Atelectasis", "Pneumothorax", "Pleural Effusion", "Pleural Other", "Fracture", "Support Devices",
)  # fmt: skip


def picture(path: Path, value: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(value).integers(0, 256, (16, 16), np.uint8)).save(path)


def write(path: Path, header: Sequence[str], rows: Sequence[Sequence[object]], end: str = "") -> None:
    """A CSV file; packed where its name ends in .gz."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(",".join(map(str, row)) + end + "\n" for row in (header, *rows))
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())


def labels(**said: str) -> list[str]:
    """The fourteen cells of one study, by the first word of a finding."""
    return [said.get(name.split()[0].lower(), "") for name in FINDINGS]


STUDIES = (
    labels(no="1.0"),
    labels(edema="1.0", fracture="0.0"),
    labels(edema="-1.0"),
    labels(cardiomegaly="1.0", edema="0.0", fracture="-1.0"),
)


def mimic(folder: Path, end: str = ".csv", patients: int = 8) -> Path:
    """Of each patient one study with a frontal and a lateral image; the third quarter is to validate, the last test."""
    images, studies, splits = [], [], []
    for number in range(patients):
        subject, study = f"1{number:07}", f"5{number:07}"
        split = ("train", "train", "validate", "test")[4 * number // patients]
        studies.append([subject, study, *STUDIES[number % 4]])
        for view in ("PA", "LATERAL"):
            image = f"{number:08x}-{view.lower()}"
            images.append([image, subject, study, view, 16, 16])
            splits.append([image, study, subject, split])
            picture(folder / "files" / f"p{subject[:2]}" / f"p{subject}" / f"s{study}" / f"{image}.jpg", number)
    stem = "mimic-cxr-2.0.0-"
    write(
        folder / f"{stem}metadata{end}",
        ("dicom_id", "subject_id", "study_id", "ViewPosition", "Rows", "Columns"),
        images,
    )
    write(folder / f"{stem}chexpert{end}", ("subject_id", "study_id", *FINDINGS), studies)
    write(folder / f"{stem}split{end}", ("dicom_id", "study_id", "subject_id", "split"), splits)
    return folder


def chexpert(folder: Path, patients: int = 8) -> Path:
    """Small as it is given away: paths begin with the folder's first name."""
    header = ("Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", *FINDINGS)
    for part, count in (("train", patients), ("valid", 4)):
        rows = []
        for number in range(count):
            for view, side in (("frontal", "AP"), ("lateral", "")):
                path = f"{part}/patient{number + 500 * (part == 'valid'):05}/study1/view_{view}.jpg"
                said = [cell or "0.0" for cell in STUDIES[number % 4]] if part == "valid" else STUDIES[number % 4]
                rows.append([f"CheXpert-v1.0-small/{path}", "Male", 60, view.title(), side, *said])
                picture(folder / path, 2 * number + (view == "lateral") + 10_000 * (part == "valid"))
        write(folder / f"{part}.csv", header, rows)
    return folder


def chest14(folder: Path, patients: int = 6, end: str = ",") -> Path:
    """In two parts, as 2017: every line ends with a comma, and two column names hold one."""
    header = "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position"
    header += ",OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]"
    said = ("No Finding", "Cardiomegaly|Emphysema", "Edema")
    rows, names = [], []
    for number in range(patients * 2):
        names.append(f"{number // 2 + 1:08}_{number % 2:03}.png")
        rows.append(
            [names[-1], said[number % 3], number % 2, number // 2 + 1, "058Y", "M", "PA", 2682, 2749, 0.143, 0.143]
        )
        picture(folder / f"images_{1 + number // patients:03}" / "images" / names[-1], number)
    write(folder / "Data_Entry_2017.csv", header.split(","), rows, end)
    (folder / "train_val_list.txt").write_text("\n".join(names[: patients + patients % 4 + 2]) + "\n")
    (folder / "test_list.txt").write_text("\n".join(names[patients + patients % 4 + 2 :]))
    return folder


DIAGNOSES = ("MEL", "NV", "BCC", "AK", "BKL", "DF", "VASC", "SCC", "UNK")


def isic(folder: Path, images: int = 8, at: str = "ISIC_2019_Training_Input") -> Path:
    """Two images a lesion, and the last two of no known lesion."""
    names = [f"ISIC_{number:07}" for number in range(images)]
    truth = [[name, *(f"{float(number // 2 % 8 == place)}" for place in range(9))] for number, name in enumerate(names)]
    lesions = [f"BCN_{number // 2:07}" if number < images - 2 else "" for number in range(images)]
    about = [[name, "55.0", "anterior torso", lesion, "female"] for name, lesion in zip(names, lesions, strict=True)]
    write(folder / "ISIC_2019_Training_GroundTruth.csv", ("image", *DIAGNOSES), truth)
    write(
        folder / "ISIC_2019_Training_Metadata.csv",
        ("image", "age_approx", "anatom_site_general", "lesion_id", "sex"),
        about,
    )
    for number, name in enumerate(names):
        picture(folder / at / f"{name}.jpg", number)
    return folder


def fed_isic(folder: Path, images: int = 24) -> Path:
    """FLamby's: six centres, of which every fourth image is test, lesions or not."""
    isic(folder, images, "ISIC_2019_Training_Input_preprocessed")
    rows = []
    for number in range(images):
        centre, fold, kind = number * 6 // images, "test" if number % 4 == 3 else "train", number // 2 % 8
        marks = [f"{float(kind == place)}" for place in range(9)]
        rows.append([f"ISIC_{number:07}", *marks, kind, centre, fold, f"{fold}_{centre}"])
    write(folder / "train_test_split", ("image", *DIAGNOSES, "target", "center", "fold", "fold2"), rows)
    return folder


def ham(folder: Path, more: str = ",dataset") -> Path:
    rows = []
    for number in range(8):
        rows.append(
            [
                f"HAM_{number // 2:07}",
                f"ISIC_{number:07}",
                ("nv", "mel")[number // 2 % 2],
                "histo",
                60.0,
                "male",
                "back",
            ]
        )
        rows[-1] += [("rosendahl", "vidir_modern")[number // 4]] if more else []
        picture(folder / f"HAM10000_images_part_{1 + number // 4}" / f"ISIC_{number:07}.jpg", number)
    write(
        folder / "HAM10000_metadata.csv", f"lesion_id,image_id,dx,dx_type,age,sex,localization{more}".split(","), rows
    )
    return folder


def kermany_cxr(folder: Path) -> Path:
    for number in range(4):
        picture(folder / "train" / "NORMAL" / f"IM-{number:04}-0001.jpeg", number)
        for shot in range(2):
            picture(
                folder / "train" / "PNEUMONIA" / f"person{number}_bacteria_{number}{shot}.jpeg", 10 + number * 2 + shot
            )
        picture(folder / "test" / "NORMAL" / f"NORMAL2-IM-{number:04}-0001.jpeg", 30 + number)
        picture(folder / "test" / "PNEUMONIA" / f"person{number}_virus_{number}.jpeg", 40 + number)
    return folder


def kermany_oct(folder: Path) -> Path:
    """Patient 1 has images in training and in test."""
    for number, name in enumerate(("CNV", "DME", "DRUSEN", "NORMAL")):
        for patient in range(1, 4):
            picture(folder / "train" / name / f"{name}-{patient + 10 * number}-1.jpeg", number * 5 + patient)
        picture(folder / "test" / name / f"{name}-{1 + 10 * number}-2.jpeg", 60 + number)
    return folder


def covid(folder: Path) -> Path:
    header = "patientid,offset,sex,age,finding,RT_PCR_positive,view,modality,date,location,folder,filename,license"
    said = ("Pneumonia/Viral/COVID-19", "Pneumonia/Viral/SARS", "No Finding", "todo")
    rows = []
    for number in range(8):
        view, kind = (("PA", "X-ray"), ("L", "X-ray"), ("Axial", "CT"), ("AP Supine", "X-ray"))[
            number // 4 * (number % 4)
        ]
        name = f"image-{number}.jpg"
        rows.append([number // 2, 0, "M", 60, said[number % 4], "Y", view, kind, 2020, "Rome", "images", name, "CC BY"])
        picture(folder / "images" / name, number)
    write(folder / "metadata.csv", header.split(","), rows)
    return folder


def medmnist(path: Path, shape: tuple[int, ...], classes: int = 2) -> Path:
    rng, held = np.random.default_rng(0), dict[str, np.ndarray]()
    for split, count in (("train", 6), ("val", 2), ("test", 4)):
        held[f"{split}_images"] = rng.integers(0, 256, (count, *shape), np.uint8)
        held[f"{split}_labels"] = (np.arange(count) % classes)[:, None].astype(np.uint8)
    np.savez_compressed(path, **held)  # type: ignore[arg-type]
    return path
