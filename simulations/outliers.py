"""What a head takes for unlike its training cases: `python -m simulations.outliers RUN [FOLDER|phantom|tissue]...`.

RUN was made with `outliers=SHARE`. Prints the share of cases beyond the limit: of the run's own test cases, of some
of them turned, inverted and corrupted (see `simulations.corruption`), and of some pictures of each place.
"""

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from medtl_core.config import settings
from medtl_core.data.images import read_pictures
from medtl_core.data.views import Pixels, square
from medtl_core.errors import RunError
from medtl_core.features.extract import images_of
from medtl_core.predict import Predictor, load
from medtl_core.predict.cases import NewCases, unlabelled
from medtl_core.rng import stream
from server.testset import open_reference
from simulations.corruption import corrupt, relevant

#: Pictures of each kind, and the severities of corruptions.
MOST, SEVERITIES = 60, (1, 3, 5)


def changes(modality: str) -> dict[str, Callable[[Pixels, int], Pixels]]:
    """Returns what is done to a picture, by name."""
    found: dict[str, Callable[[Pixels, int], Pixels]] = {
        "upside down": lambda picture, _: picture[::-1].copy(),
        "a quarter turn": lambda picture, _: np.rot90(picture).copy(),
        "inverted": lambda picture, _: 255 - picture,
    }
    for severity in SEVERITIES:
        for name in relevant(modality):

            def changed(picture: Pixels, row: int, name: str = name, severity: int = severity) -> Pixels:
                return corrupt(picture, name, severity, rng=stream(row, "outliers", name))

            found[f"{name} {severity}"] = changed
    return found


def beyond(predictor: Predictor, pictures: list[Pixels]) -> float:
    """Returns the share of pictures that lie beyond the limit."""
    names = tuple(map(str, range(len(pictures))))
    told = predictor.answers(NewCases(names, unlabelled({"image": np.stack(pictures)})))
    return float(np.mean([answer.distance is not None and answer.distance > 1 for answer in told]))


def spread(rows: int) -> list[int]:
    """Places of at most `MOST` rows, evenly spread."""
    return sorted({int(place) for place in np.linspace(0, rows - 1, min(rows, MOST))})


def own(run: Path, predictor: Predictor) -> Mapping[str, float]:
    """Returns the shares of the run's test cases and of what is made of them."""
    result = json.loads((run / "seed-0" / "result.json").read_text(encoding="utf-8"))
    cases = open_reference(settings(result["settings"]), workers=2).cases
    if cases is None or cases.material is None or predictor.outliers is None:
        raise RunError(f"{run} was not judged on the server's cases, or its heads know no limit: set outliers=0.01")
    shares = {"own test cases": float((predictor.outliers.far(cases.values) > 1).mean())}
    side = max(predictor.settings.sizes, default=224)
    images = images_of(cases.material.examples)
    pictures = [square(read_pictures(images[row])[0], side) for row in spread(len(images))]
    kinds = {name: [change(one, row) for row, one in enumerate(pictures)]
             for name, change in changes(predictor.modality).items()}  # fmt: skip
    return {**shares, **{name: beyond(predictor, made) for name, made in kinds.items()}}


def main(words: list[str]) -> int:
    """Prints a line a kind."""
    run, *places = words
    predictor = load(Path(run) / "seed-0" / "heads" / "auto")
    for name, share in own(Path(run), predictor).items():
        print(f"{name:32} {share:.2f}", flush=True)
    for place in places:
        cases = predictor.cases([place])
        rows = spread(len(cases.names))
        some = NewCases(tuple(cases.names[row] for row in rows), cases.examples.take(np.asarray(rows)))
        told = [answer.distance or 0.0 for answer in predictor.answers(some)]
        print(f"{place:32} {np.mean(np.asarray(told) > 1):.2f} of {len(told)}", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
