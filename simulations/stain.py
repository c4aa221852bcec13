"""The built-in tiles of tissue as files, so that `task.json` may state other views: what stain normalisation is worth.

    python -m simulations.stain OUT
    medtl simulate --data OUT/macenko sites=3 leave-out=tissue-a partition=natural methods=local,discriminant,auto

Three folders with the same tiles read as they are, normalised, and both. Each laboratory stains differently; one that
is left out judges heads of the others.
"""

import csv
import json
import sys
from pathlib import Path

from medtl_core.data.synthetic.tissue import tissue

VIEWS = {"identity": ["identity"], "macenko": ["macenko"], "both": ["identity", "macenko"]}


def write(out: Path) -> int:
    """Writes the tiles once, and a manifest and a task for each of the `VIEWS`; returns the number of tiles."""
    from PIL import Image

    drawn = tissue()
    (out / "tiles").mkdir(parents=True, exist_ok=True)
    header, rows = ["path", "label", "patient_id", "site", "split"], []
    for row, picture in enumerate(drawn["image"]):
        Image.fromarray(picture).save(out / "tiles" / f"{row}.png")
        label = drawn.task.classes[drawn["label"][row]]
        rows.append([f"../tiles/{row}.png", label, drawn["patient"][row], drawn["site"][row], drawn["split"][row]])
    for name, views in VIEWS.items():
        (out / name).mkdir(exist_ok=True)
        task = {"name": "tissue", "classes": [*drawn.task.classes], "modality": "other", "views": views}
        (out / name / "task.json").write_text(json.dumps(task), encoding="utf-8")
        with (out / name / "manifest.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([header, *rows])
    return len(rows)


if __name__ == "__main__":
    sys.stdout.write(f"{write(Path(sys.argv[1]))} tiles\n")
