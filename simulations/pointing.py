"""How often a map's strongest point lies on the lesion: `python -m simulations.pointing`.

Films of the phantom whose consolidation is known, for it is drawn last: the drawing less the one without it. The head
is `auto` of the quickstart. A head of shuffled columns shows what chance would give.
"""

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from medtl_core.config import read_scenario
from medtl_core.data.synthetic.anatomy import canvas, draw, traits
from medtl_core.data.synthetic.scanner import SCANNERS, expose
from medtl_core.predict.predictor import Predictor, load
from medtl_core.values import Array, Head
from simulations.experiments import run_once

ROOT = Path(__file__).resolve().parents[1]
SIZE, FILMS, NEAR = 128, 40, 6
#: What the lesion adds to a drawing, 0 to 1, where it counts as there.
_THERE = 0.05


def film(number: int) -> tuple[Array, Array]:
    """A film with a consolidation, uint8 [s, s, 1], and where it is or within `NEAR` pixels of it, bool [s, s]."""
    from scipy.ndimage import binary_dilation

    page, body = canvas(SIZE), traits(np.random.default_rng(number), 1)
    ill, well = (draw(page, body, np.array([label]), np.random.default_rng(100 + number)) for label in (1, 0))
    scanner = [*SCANNERS.values()][number % len(SCANNERS)]
    pixels = expose(page, ill, scanner, np.random.default_rng(number))[0]
    return pixels[..., None], np.asarray(binary_dilation((ill - well)[0] > _THERE, iterations=NEAR))


def hits(predictor: Predictor) -> tuple[int, float]:
    """Returns how many films the map points at rightly, and how many a point drawn anywhere would."""
    attributor, found, chance = predictor.attributor(), 0, 0.0
    for number in range(FILMS):
        pixels, lesion = film(number)
        (one,) = attributor.explain(pixels, "consolidation")
        found += bool(lesion.ravel()[one.parts.argmax()])
        chance += float(lesion.mean())
    return found, chance


def shuffled(predictor: Predictor, seed: int) -> Predictor:
    """The same predictor with a head that has learnt nothing."""
    head = predictor.classifier
    assert isinstance(head, Head)
    order = np.random.default_rng(seed).permutation(head.weight.shape[1])
    return replace(predictor, classifier=replace(head, weight=head.weight[:, order]))


def main() -> int:
    """Trains the head, and prints the counts."""
    with tempfile.TemporaryDirectory() as folder:
        scenario = read_scenario(ROOT / "simulations" / "scenarios" / "quickstart.toml")
        run_once({**scenario, "methods": "discriminant,auto"}, Path(folder) / "run", "pointing")
        predictor = load(Path(folder) / "run" / "seed-0" / "heads" / "auto")
        found, chance = hits(predictor)
        print(f"map of the head        {found} of {FILMS}; a point anywhere {chance:.1f}")
        for seed in range(3):
            print(f"map of a shuffled head {hits(shuffled(predictor, seed))[0]} of {FILMS}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
