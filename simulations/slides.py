"""Slides of built-in tiles, of which few tell: what weighing tiles is worth against their mean.

    python -m simulations.slides OUT
    medtl simulate --data OUT --set seeds=10 sites=4 partition=natural shots=25 image-size=128 methods=auto,attention-20

A slide is twelve tiles of one laboratory, quiet or crowded at random; on every second slide some of them are inflamed.
Tiles of test patients make test slides only.
"""

import argparse
import csv
import json
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medtl_core.data.synthetic.tissue import LABORATORIES, tissue
from medtl_core.rng import stream
from medtl_core.values import Examples

#: Tiles of a slide, down and across, pixels a side of each, and micrometres a pixel.
SHAPE, SIDE, MPP = (3, 4), 256, 0.5
#: Slides of a laboratory.
SLIDES = {"train": 40, "test": 25}


def drawn(tiles: Examples, place: str, split: str, telling: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Returns a slide of a laboratory's tiles, uint8 [768, 1024, 3], of which so many are inflamed."""
    own = np.flatnonzero((tiles["site"] == place) & (tiles["split"] == split))
    plain, inflamed = own[tiles["label"][own] < 2], own[tiles["label"][own] == 2]
    chosen = np.concatenate([rng.choice(inflamed, telling), rng.choice(plain, SHAPE[0] * SHAPE[1] - telling)])
    grid = tiles["image"][rng.permutation(chosen)].reshape(*SHAPE, SIDE, SIDE, 3)
    return np.asarray(grid.swapaxes(1, 2).reshape(SHAPE[0] * SIDE, SHAPE[1] * SIDE, 3))


def write(out: Path, telling: int, seed: int) -> int:
    """Writes the slides as TIFF pyramids, a manifest and a task; returns the number of slides."""
    from tifffile import TiffWriter

    tiles = tissue(seed, size=SIDE, trained=60)
    out.mkdir(parents=True, exist_ok=True)
    rows = [["path", "label", "patient_id", "site", "split"]]
    for place in LABORATORIES:
        for split, number in ((split, number) for split, count in SLIDES.items() for number in range(count)):
            name, rng = f"{place}-{split}-{number}", stream(seed, "slides", place, split, number)
            picture = drawn(tiles, place, split, telling * (number % 2), rng)
            with TiffWriter(out / f"{name}.tif") as file:
                for down in (1, 2):
                    file.write(
                        picture[::down, ::down], subfiletype=int(down > 1), tile=(SIDE, SIDE), photometric="rgb",
                        compression="deflate", resolution=(1e4 / (MPP * down),) * 2, resolutionunit="CENTIMETER",
                        metadata=None,
                    )  # fmt: skip
            rows.append([f"{name}.tif", ("calm", "inflamed")[number % 2], name, place, split])
    task = {"name": "slides", "classes": ["calm", "inflamed"], "modality": "other", "views": ["identity"]}
    (out / "task.json").write_text(json.dumps(task), encoding="utf-8")
    with (out / "manifest.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    return len(rows) - 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m simulations.slides", description=__doc__.partition("\n")[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--telling", type=int, default=2, help="inflamed tiles of a slide that has any")
    parser.add_argument("--seed", type=int, default=0, help="of the tiles and slides")
    words = parser.parse_args()
    sys.stdout.write(f"{write(words.out, words.telling, words.seed)} slides\n")
