"""Whether maps say what the head reads: `python -m simulations.deletion`.

Deletion covers a picture's pixels with its mean colour, those first that a map ranks highest, and watches the
probability fall; insertion brings them back onto the covered picture, and watches it rise (Petsiuk et al., BMVC 2018).
Told is the mean probability over the steps: low is good for deletion, high for insertion. Films and head are those of
`simulations.pointing`; a map of a shuffled head and pixels in any order show what chance would give.
"""

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from medtl_core.data.views import Pixels, square
from medtl_core.features.dataset import Material
from medtl_core.predict.cases import unlabelled
from medtl_core.predict.predictor import Predictor
from medtl_core.values import Array
from simulations.pointing import NAME, SIZE, films, shuffled, trained

#: Films, their phantom's seed, and steps of a curve.
FILMS, SEED, STEPS = 20, 3, 16

Order = Callable[[Array, int], Array]


def curves(predictor: Predictor, pixels: Pixels, ranks: Array) -> tuple[float, float]:
    """Returns the mean probability of the class while pixels vanish, and while they come back, highest ranks first.

    Args:
        predictor: what is asked.
        pixels: uint8 [s, s, 3].
        ranks: float [s, s].
    """
    order = np.argsort(-ranks.ravel(), kind="stable").reshape(STEPS, -1)
    covered = np.broadcast_to(pixels.mean(axis=(0, 1)).astype(np.uint8), pixels.shape)
    rows = []
    for step in range(1, STEPS):
        seen = np.zeros(ranks.size, bool)
        seen[order[:step].ravel()] = True
        there = seen.reshape(ranks.shape)[..., None]
        rows += [np.where(there, covered, pixels), np.where(there, pixels, covered)]
    material = Material(unlabelled({"image": np.stack(rows)}), predictor.settings, predictor.views)
    logits = predictor.classifier.logits(material.features().values, material)
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    found = (shares / shares.sum(axis=1, keepdims=True))[:, predictor.classes.index(NAME)]
    return float(found[::2].mean()), float(found[1::2].mean())


def orders(predictor: Predictor) -> Mapping[str, Order]:
    """Returns what ranks pixels, by name."""
    exact, covering, lost = predictor.attributor(), predictor.occluder(), shuffled(predictor, 0).attributor()
    return {
        "exact map": lambda pixels, number: exact.explain(pixels, NAME)[0].parts,
        "occlusion": lambda pixels, number: covering.explain(pixels, NAME)[0].parts,
        "map of a shuffled head": lambda pixels, number: lost.explain(pixels, NAME)[0].parts,
        "any order": lambda pixels, number: np.random.default_rng(number).random((SIZE, SIZE)),
    }


def main() -> int:
    """Trains the head, and prints the means with their standard errors over films."""
    with tempfile.TemporaryDirectory() as folder:
        (predictor,) = trained(30, Path(folder) / "run")
    print(f"{'ranked by':<24}{'deletion':>16}{'insertion':>16}   {FILMS} films, mean and standard error")
    shown = [square(np.repeat(film.pixels, 3, axis=2), SIZE) for film in films(SEED)]
    shown = shown[:: len(shown) // FILMS][:FILMS]
    for name, ranked in orders(predictor).items():
        rows = np.asarray([curves(predictor, pixels, ranked(pixels, number)) for number, pixels in enumerate(shown)])
        told = [f"{mean:.3f} ± {error:.3f}" for mean, error in zip(rows.mean(0), rows.std(0) / FILMS**0.5, strict=True)]
        print(f"{name:<24}{told[0]:>16}{told[1]:>16}", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
