"""How far AUROCs from hospitals' sums lie from those of the cases: `python -m simulations.summed RUN/seed-0...`.

Reads the scores that a run with `keep-scores=true` left, sums them as hospitals would, and prints for every method the
largest difference over the classes, that of their mean, and the bytes a hospital sends of a head.
"""

import math
import sys
from pathlib import Path

import numpy as np

from medtl_core.clinical.ranking import rankings, summed
from medtl_core.evaluation.federated import SCORE_BINS, expected_shapes, summarise
from medtl_core.evaluation.scores import select
from medtl_core.values import Scores


def apart(folder: Path) -> dict[str, tuple[float, float]]:
    """Returns of each method the largest difference over the classes, and that of the mean AUROC."""
    with np.load(folder / "scores.npz", allow_pickle=False) as file:
        saved = {name: file[name] for name in file.files}
    classes, found = tuple(saved["classes"].tolist()), {}
    for name in (name for name in saved if name.startswith("logits ")):
        scores = Scores(saved[name], saved["label"], saved["site"], saved["patient"])
        sites = {str(site): summarise(select(scores, scores.site == site)) for site in np.unique(scores.site)}
        exact, sums = rankings(scores, classes), summed(sites, classes)
        gaps = [sums[key].area - exact[key].area for key in exact if all(exact[key].support)]
        found[name.removeprefix("logits ")] = max(map(abs, gaps)), abs(float(np.mean(gaps)))
    return found


def main(folders: list[str]) -> int:
    """Prints a line a method and one a run."""
    for folder in map(Path, folders):
        rows = apart(folder)
        for name, (worst, mean) in rows.items():
            print(f"{folder}  {name:24} largest of a class {worst:.1e}, of the mean {mean:.1e}")
        with np.load(folder / "scores.npz", allow_pickle=False) as file:
            sent = 8 * sum(math.prod(shape) for shape in expected_shapes(len(file["classes"])).values())
            told = f"{len(file['label'])} cases, {SCORE_BINS} bins a class, {sent / 1000:.1f} kB a head and hospital"
        print(f"{folder}  all: {max(worst for worst, _ in rows.values()):.1e}; {told}", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
