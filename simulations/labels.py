"""A multi-label task made of IDRiD's fundus photographs, with labels hidden at random: what unknown findings cost.

    python -m simulations.labels DIR/idrid_fundus --out runs/fundus --hidden 0.5
    medtl simulate --data runs/fundus --seeds 10 --set partition=even sites=5 shots=60

Findings are a grade of retinopathy of 2 and more, of 3 and more, and a risk of macular oedema. Of the training cases
each is hidden with the same chance, whatever it is; the test cases' are all known.
"""

import argparse
import csv
import json
from pathlib import Path

from medtl_core.data.task import MANIFEST, TASK
from medtl_core.rng import stream
from medtl_core.values import MULTI_LABEL

#: Finding -> column of IDRiD's metadata, and from which grade on it is there.
FINDINGS = {
    "referable retinopathy": ("dr_grade", 2), "severe retinopathy": ("dr_grade", 3), "macular oedema": ("dme_risk", 1),
}  # fmt: skip


def write(source: Path, out: Path, hidden: float) -> None:
    """Writes manifest and task of the photographs in `source`, whose findings in training are hidden with a chance."""
    out.mkdir(parents=True, exist_ok=True)
    task = {"name": "fundus", "classes": list(FINDINGS), "kind": MULTI_LABEL, "modality": "fundus photograph"}
    (out / TASK).write_text(json.dumps(task), encoding="utf-8")
    rng = stream(0, "hidden")
    with (source / "metadata.csv").open(encoding="utf-8", newline="") as rows:
        lines = list(csv.DictReader(rows))
    with (out / MANIFEST).open("w", encoding="utf-8", newline="") as handle:
        manifest = csv.writer(handle)
        manifest.writerow(["path", *FINDINGS, "split"])
        for line in lines:
            known = (rng.random(len(FINDINGS)) >= hidden) | (line["split"] == "test")
            cells = [int(int(line[column]) >= grade) for column, grade in FINDINGS.values()]
            shown = [cell if there else "" for cell, there in zip(cells, known.tolist(), strict=True)]
            manifest.writerow([(source / line["file"]).absolute(), *shown, line["split"]])


def main() -> None:
    """Reads the command line."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("source", type=Path, help="folder of idrid_fundus")
    words.add_argument("--out", type=Path, required=True)
    words.add_argument("--hidden", type=float, default=0.0)
    asked = words.parse_args()
    write(asked.source, asked.out, asked.hidden)


if __name__ == "__main__":
    main()
