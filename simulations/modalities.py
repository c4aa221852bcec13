"""Public sets with several modalities a case, written as manifests that `medtl simulate` reads.

python -m simulations.modalities ham10000_sites ../shared/data/ham10000_sites OUT
python -m simulations.modalities compare OUT backbone=lite0+table sites=10 shots=90 methods=fusion-alone,fusion,auto
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


def compare(data: str, words: list[str]) -> str:
    """Returns a Markdown table: methods over seeds on one data set, in memory, and differences to the first by seed.

    Accuracy, balanced accuracy and AUROC in percent on the held-out cases, which are the same for every seed; what
    varies is which training cases the hospitals hold.
    """
    from medtl_core.cli.plan import name_data
    from medtl_core.clinical.significance import paired
    from medtl_core.config import read_assignments, settings
    from medtl_core.evaluation.counts import counted, figures
    from medtl_core.federation.registry import read_methods
    from medtl_core.federation.study import Study
    from simulations.federation import federate, load
    from simulations.intervals import apart, markdown, over

    typed = read_assignments(words)
    seeds, methods = int(typed.pop("seeds", 10)), str(typed.pop("methods", "auto"))
    chosen = settings({**name_data(data), **typed})
    cases, found = load(chosen), dict[str, list[tuple[float, ...]]]()
    classes, test = cases.examples.task.classes, cases.rows("test")
    for seed in range(seeds):
        bare = federate(cases, cases.rows("train"), classes, chosen.replace(seed=seed))
        study = Study(bare.hospitals, bare.problem, bare.settings, read_methods(methods))
        for method in study.methods:
            outcome = study.outcome(method)
            logits = outcome.heads[""].logits(cases.values[test])
            judged = figures(counted(cases.scores(logits, test, classes)), ("balanced_accuracy", "auroc"))
            right = float((logits.argmax(axis=1) == cases.examples["label"][test]).mean())
            row = (right, *(float(judged[name] or 0.0) for name in ("balanced_accuracy", "auroc")))
            found.setdefault(method.name, []).append(row)
            told = {key: outcome.facts[key] for key in ("weights", "gain", "error") if key in outcome.facts}
            sys.stderr.write(f"seed {seed} {method.name} {row} {told}\n")
    rows, baseline = [], next(iter(found))
    for name, values in found.items():
        columns = [over([value[place] for value in values]) for place in range(3)]
        baseline, first = next(iter(found.items()))
        versus = (
            "-" if name == baseline else apart(paired([value[1] for value in values], [value[1] for value in first]))
        )
        rows.append((f"`{name}`", str(len(values)), *columns, versus))
    head = (
        "method",
        "seeds",
        "accuracy",
        "balanced accuracy",
        "AUROC",
        f"balanced accuracy against {next(iter(found))}",
    )
    return f"{len(test)} held-out cases\n\n{markdown(head, rows)}"


if __name__ == "__main__":
    order, *rest = sys.argv[1:]
    if order == "compare":
        sys.stdout.write(f"{compare(rest[0], rest[1:])}\n")
    else:
        sys.stdout.write(f"{write(order, Path(rest[0]), Path(rest[1]))} cases\n")
