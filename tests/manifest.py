"""Cases as a hospital keeps them: a folder with a manifest, or a table of numbers."""

import csv
import json
from pathlib import Path

import numpy as np
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


def write_table(path: Path, sites: str = "abcde", cases: int = 30, columns: int = 3) -> Path:
    """Writes a CSV of numbers: at each site so many cases of three Gaussian classes, every third one a test case."""
    rng, lines = (
        np.random.default_rng(0),
        [["label", "patient_id", "site", "split", *map("c{}".format, range(columns))]],
    )
    for site in sites:
        for number in range(cases):
            label, split = number % 3, "test" if number // 3 % 3 == 2 else "train"
            values = rng.normal(label * np.arange(1, columns + 1) % 3, 1.0)
            lines.append([str(label), f"{site}-{number}", site, split, *(f"{value:.4f}" for value in values)])
    path.write_text("\n".join(map(",".join, lines)) + "\n", encoding="utf-8")
    return path
