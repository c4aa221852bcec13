"""Public sets with several modalities a case, written as manifests that `medtl simulate` reads.

python -m simulations.modalities ham10000_sites ../shared/data/ham10000_sites OUT
"""

import csv
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

Row = Mapping[str, str]

_PLACES = (
    "back", "lower extremity", "face", "upper extremity", "trunk", "abdomen", "chest", "foot", "neck", "scalp", "hand",
    "ear", "genital", "acral",
)  # fmt: skip
_GRADES = {"well differentiated": "1", "intermediate": "2", "poorly differentiated": "3"}


def ham10000_sites(row: Row, folder: Path) -> dict[str, str]:
    """Image, age, sex and place of a lesion; a place that is not known is of none."""
    told = {
        "path": str(folder / "images" / f"{row['image_id']}.jpg"),
        "label": row["dx"],
        "patient_id": row["lesion_id"],
    }
    known = row["localization"] in _PLACES
    places = {f"place {place}": str(int(row["localization"] == place)) if known else "" for place in _PLACES}
    sex = {"male": "1", "female": "0"}.get(row["sex"], "")
    decades = f"{float(row['age']) / 10:g}" if row["age"] else ""
    return {**told, "site": row["site"], "split": row["split"], "decades": decades, "male": sex, **places}


def covid_cxr_cc(row: Row, folder: Path) -> dict[str, str]:
    """Image and clinical note of a radiograph: COVID-19 or another pneumonia."""
    label = "COVID-19" if row["finding"].startswith("COVID-19") else "other"
    place = str(folder / "images" / row["file"])
    return {"path": place, "label": label, "patient_id": row["patientid"], "note": row["clinical_notes"]}


def gse7390_breast(row: Row, folder: Path) -> dict[str, str]:
    """Clinical record and gene expression: whether metastasis was seen; columns of the two are told by their names."""
    del folder
    told = {"label": {"1": "metastasis", "0": "none seen"}[row["e.tdm"]]}
    clinic = {"decades": f"{float(row['age']) / 10:g}", "size": row["size"], "grade": _GRADES.get(row["grade"], "")}
    clinic["receptor"] = {"positive": "1", "negative": "0"}[row["er"]]
    genes = {f"gene:{name}": value for name, value in row.items() if name.startswith("X")}
    return {**told, **{f"clinic:{name}": value for name, value in clinic.items()}, **genes}


#: Set -> its table, classes, modality, and what becomes of a row.
SETS: Mapping[str, tuple[str, tuple[str, ...], str, Callable[[Row, Path], dict[str, str]]]] = {
    "ham10000_sites": (
        "metadata.csv", ("akiec", "bcc", "bkl", "df", "mel", "nv", "vasc"), "dermoscopy", ham10000_sites,
    ),
    "covid_cxr_cc": ("metadata.csv", ("COVID-19", "other"), "chest X-ray", covid_cxr_cc),
    "gse7390_breast": ("gse7390.csv", ("none seen", "metastasis"), "table", gse7390_breast),
}  # fmt: skip


def write(name: str, folder: Path, out: Path) -> int:
    """Writes a set's manifest and task, and returns the number of its cases."""
    table, classes, modality, case = SETS[name]
    with (folder / table).open(newline="", encoding="utf-8") as file:
        rows = [case(row, folder.absolute()) for row in csv.DictReader(file)]
    out.mkdir(parents=True, exist_ok=True)
    task = {"name": name, "classes": [*classes], "modality": modality}
    (out / "task.json").write_text(json.dumps(task), encoding="utf-8")
    with (out / "manifest.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [*rows[0]])
        writer.writeheader()
        writer.writerows(rows)
    return len(rows)


if __name__ == "__main__":
    sys.stdout.write(f"{write(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))} cases\n")
