"""Cases as a hospital's own folder."""

import csv
import json
from pathlib import Path

from PIL import Image

from medtl_core.data.images import decode, images_of
from medtl_core.values import Examples


def write_manifest(examples: Examples, folder: Path) -> None:
    """Writes PNG files with numbers for names, `manifest.csv` and `task.json` into a new folder."""
    source = images_of(examples)
    assert source is not None
    (folder / "images").mkdir(parents=True)
    free = [name for name in examples.columns if name not in ("label", "patient", "site", "split", "path", "image")]
    with (folder / "manifest.csv").open("w", newline="", encoding="utf-8") as handle:
        rows = csv.writer(handle, lineterminator="\n")
        rows.writerow(["path", "label", "patient_id", "site", "split", *free])
        for number, image in enumerate(source):
            pixels, name = decode(image), f"images/{number:06d}.png"
            grey = bool((pixels == pixels[:, :, :1]).all())
            Image.fromarray(pixels[:, :, 0] if grey else pixels).save(folder / name)
            label = examples.task.classes[int(examples["label"][number])]
            cells = [examples[column][number] for column in ("patient", "site", "split", *free)]
            rows.writerow([name, label, *cells])
    stated = {"name": examples.task.name, "classes": list(examples.task.classes)}
    (folder / "task.json").write_text(json.dumps(stated), encoding="utf-8")
