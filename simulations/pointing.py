"""How often a map's strongest point lies on the lesion: `python -m simulations.pointing`.

Films of the phantom's test patients with a consolidation. Where it is, is known, for it is drawn last: the drawing less
the one without it. Heads are `auto` of the quickstart, with its 30 cases a hospital and with 200; no head saw a film's
patient. A map is told alone, and beyond those of training cases of the film's own hospital; its points are also laid on
the lesions of the hospital's other films, which tells what knowing where lesions lie would give. Heads of shuffled
columns show what a head gives that has learnt nothing. How maps are compared was chosen on films of seeds 1, 2, 6 to 9.
"""

import argparse
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from medtl_core.config import read_scenario
from medtl_core.data.synthetic.anatomy import canvas, draw, traits
from medtl_core.data.synthetic.phantom import phantom
from medtl_core.data.synthetic.scanner import SCANNERS, expose
from medtl_core.features.spec import feature_spec
from medtl_core.methods.finetune.adapters import find_adapter
from medtl_core.methods.finetune.model import Tuned
from medtl_core.methods.finetune.split_backbone import open_backbone
from medtl_core.predict.attribution import Attributor
from medtl_core.predict.cases import NewCases, unlabelled
from medtl_core.predict.gradcam import GradCam
from medtl_core.predict.predictor import Predictor, load
from medtl_core.predict.reasons import Occluder
from medtl_core.predict.tap_maps import Read, TapMaps
from medtl_core.rng import stream
from medtl_core.values import Array, Examples, Head
from simulations.experiments import run_once

ROOT = Path(__file__).resolve().parents[1]
SIZE, NEAR, NAME = 128, 6, "consolidation"
#: What the lesion adds to a drawing, 0 to 1, where it counts as there; patients of a block of the phantom.
_THERE, _BLOCK = 0.05, 16


@dataclass(frozen=True)
class Film:
    """A film with a consolidation: uint8 [s, s, 1], its hospital, and where it is or within `NEAR` pixels [s, s]."""

    pixels: Array
    site: str
    lesion: Array


def films(seed: int) -> Iterator[Film]:
    """Yields the films of a phantom's test patients that show a consolidation, drawn again as `phantom` draws them."""
    from scipy.ndimage import binary_dilation

    page, cases = canvas(SIZE), phantom(seed, SIZE)
    for name, scanner in SCANNERS.items():
        mine = np.flatnonzero((cases["site"] == name) & (cases["split"] == "test"))
        owners = np.repeat(np.arange(_BLOCK), np.where(np.arange(_BLOCK) % 4 == 0, 2, 1))
        for first in range(0, len(mine), len(owners)):
            rng = stream(seed, "phantom", name, "test", first // len(owners) * _BLOCK)
            label = rng.choice(len(scanner.mix), size=_BLOCK, p=scanner.mix).astype(np.int64)[owners]
            body = {key: values[owners] for key, values in traits(rng, _BLOCK).items()}
            larger = {"width": scanner.zoom, "height": scanner.zoom, "heart": scanner.heart}
            body |= {key: body[key] * factor for key, factor in larger.items()}
            for place in range(0, len(label), 4):
                some, twin = slice(place, place + 4), deepcopy(rng)
                bodies = {key: values[some] for key, values in body.items()}
                ill, well = draw(page, bodies, label[some], rng), draw(page, bodies, 0 * label[some], twin)
                pixels = expose(page, ill, scanner, rng)
                for row, at in enumerate(mine[first:][some]):
                    if not np.array_equal(cases["image"][at][..., 0], pixels[row]):
                        raise AssertionError("the phantom is drawn otherwise; mend this copy of its loop")
                    if label[some][row] == 1:
                        there = binary_dilation((ill - well)[row] > _THERE, iterations=NEAR)
                        yield Film(cases["image"][at], name, np.asarray(there))


@dataclass(frozen=True)
class Pointed:
    """Where the maps of some films are strongest.

    Attributes:
        shown: the films.
        points: row and column of each, in pixels.
    """

    shown: Sequence[Film]
    points: Sequence[tuple[int, int]]

    @property
    def hits(self) -> Array:
        """Whether each film's point lies on its lesion, bool [n]."""
        return np.asarray([film.lesion[point] for film, point in zip(self.shown, self.points, strict=True)])

    @property
    def elsewhere(self) -> float:
        """The share of films whose point would lie on the lesion of another film of the hospital, of the mean one."""
        found = list[float]()
        for place, (film, point) in enumerate(zip(self.shown, self.points, strict=True)):
            others = [one.lesion[point] for row, one in enumerate(self.shown) if row != place and one.site == film.site]
            found += [float(np.mean(others))] if others else []
        return float(np.mean(found))


def pointed(explainers: Sequence[Attributor | GradCam | Occluder], shown: Sequence[Film]) -> Pointed:
    """Returns where maps point; a film's explainer stands at its place."""
    maps = (one.explain(film.pixels, NAME)[0].strength for one, film in zip(explainers, shown, strict=True))
    return Pointed(shown, [_strongest(drawn) for drawn in maps])


def _strongest(parts: Array) -> tuple[int, int]:
    """The middle of where a map is strongest: of a covered square all pixels are equally strong."""
    y, x = np.nonzero(parts == parts.max())
    return int(np.median(y)), int(np.median(x))


def shuffled(predictor: Predictor, seed: int) -> Predictor:
    """The same predictor with a head that has learnt nothing."""
    head = predictor.classifier
    assert isinstance(head, Head)
    order = np.random.default_rng(seed).permutation(head.weight.shape[1])
    return replace(predictor, classifier=replace(head, weight=head.weight[:, order]))


class Remembered:
    """Reads the maps of a picture once, for every head on the same features."""

    def __init__(self, maps: TapMaps) -> None:
        self._maps, self._known, self.records = maps, dict[bytes, Read](), maps.records

    def __call__(self, picture: Array) -> Read:
        """See `TapMaps`."""
        key = picture.tobytes()
        if key not in self._known:
            self._known[key] = self._maps(picture)
        return self._known[key]


def exact(predictor: Predictor, own: Examples | None, shown: Sequence[Film], maps: Remembered) -> list[Attributor]:
    """Returns what draws each film's map, alone or beyond the training cases of its hospital."""
    head = predictor.classifier
    assert isinstance(head, Head)
    alone = Attributor(head, maps.records, maps)
    if own is None:
        return [alone] * len(shown)
    sites = dict.fromkeys(film.site for film in shown)
    beyond = {site: alone.against(own.take(own["site"] == site)) for site in sites}
    return [beyond[film.site] for film in shown]


def own_cases(seed: int, most: int = 0) -> Examples:
    """Returns the training cases of a phantom, of each hospital's classes `most` where that is not 0."""
    cases = phantom(seed, SIZE)
    rows = np.flatnonzero(cases["split"] == "train")
    if most:
        kinds = [f"{site} {label}" for site, label in zip(cases["site"][rows], cases["label"][rows], strict=True)]
        rows = np.sort(np.concatenate([rows[np.asarray(kinds) == kind][:most] for kind in dict.fromkeys(kinds)]))
    return cases.take(rows)


def gradcam(predictor: Predictor) -> GradCam:
    """Returns Grad-CAM of the same head, as that of a backbone whose tuning has moved nothing."""
    head = predictor.classifier
    assert isinstance(head, Head)
    start = find_adapter("finetune", open_backbone(predictor.settings, predictor.views, "last")).start
    whole = np.column_stack([head.weight, head.bias])
    model = Tuned(head.classes, head.fingerprint, whole, start, "finetune", "last")
    return GradCam(model, predictor.settings, predictor.views)


def _told(predictor: Predictor, shown: Sequence[Film], own: Examples, heads: int) -> Iterator[str]:
    """Shares of films: answered rightly, pointed at by any point, by maps alone and beyond, of those answered rightly,
    and on other patients' lesions; then, of shuffled heads, the mean of the last with intervals over the heads.
    """
    pixels = np.stack([film.pixels for film in shown])
    answers = predictor.answers(NewCases((*map(str, range(len(shown))),), unlabelled({"image": pixels})))
    right = np.asarray([answer.largest == NAME for answer in answers])
    spec = feature_spec(predictor.settings, predictor.views, predictor.columns)
    maps = Remembered(TapMaps(spec, predictor.settings))
    alone, beyond = (pointed(exact(predictor, each, shown, maps), shown) for each in (None, own))
    anywhere = np.mean([film.lesion.mean() for film in shown])
    shares = right.mean(), anywhere, alone.hits.mean(), beyond.hits.mean(), beyond.hits[right].mean(), beyond.elsewhere
    yield "".join(f"{share:>10.2f}" for share in shares)
    lost = [pointed(exact(shuffled(predictor, seed), own, shown, maps), shown) for seed in range(heads)]
    rates = np.asarray([(one.hits.mean(), one.elsewhere) for one in lost])
    if heads > 1:
        told = (*rates.T, rates[:, 0] - rates[:, 1])
        yield ", ".join(
            f"{name} {_interval(one)}" for name, one in zip(("hit", "elsewhere", "more"), told, strict=True)
        )


def _interval(values: Array) -> str:
    """A mean with its 95 % interval over heads drawn again, and the largest value."""
    drawn = np.random.default_rng(0).choice(values, (10_000, len(values))).mean(axis=1)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return f"{values.mean():.3f} ({low:.3f} to {high:.3f}; most {values.max():.2f})"


_OTHERS: Mapping[str, Callable[[Predictor], GradCam | Occluder]] = {
    "Grad-CAM": gradcam,
    "occlusion": Predictor.occluder,
}


def trained(shots: int, folder: Path, seeds: int = 1) -> list[Predictor]:
    """Returns `auto` of the quickstart from so many cases a hospital, one a seed."""
    scenario = read_scenario(ROOT / "simulations" / "scenarios" / "quickstart.toml")
    run_once({**scenario, "methods": "discriminant,auto", "shots": shots}, folder, "pointing", seeds=seeds)
    return [load(folder / f"seed-{seed}" / "heads" / "auto", device="cpu") for seed in range(seeds)]


def main(arguments: Sequence[str] | None = None) -> int:
    """Trains heads, and prints the counts of each set of films."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[3, 4, 5], help="of the films")
    parser.add_argument("--shots", type=int, nargs="+", default=[30, 200], help="cases a hospital")
    parser.add_argument("--others", type=int, nargs="*", default=[3], help="seeds for Grad-CAM and occlusion, too")
    parser.add_argument("--own", type=int, default=0, help="own cases of each class; 0 = as many as are read")
    parser.add_argument("--shuffled", type=int, default=20, help="heads of shuffled columns")
    chosen = parser.parse_args(arguments)
    columns = ("answered", "anywhere", "alone", "beyond", "of right", "elsewhere")
    print(f"{'cases':>5}{'seed':>5}{'films':>6}{''.join(f'{name:>10}' for name in columns)}  share of films")
    with tempfile.TemporaryDirectory() as folder:
        for shots in chosen.shots:
            (predictor,) = trained(shots, Path(folder) / str(shots))
            for seed in chosen.seeds:
                shown, own = list(films(seed)), own_cases(seed, chosen.own)
                first, *more = _told(predictor, shown, own, chosen.shuffled)
                for name, make in (_OTHERS if seed in chosen.others else {}).items():
                    first += f"  {name} {pointed([make(predictor)] * len(shown), shown).hits.mean():.2f}"
                print(f"{shots:>5}{seed:>5}{len(shown):>6}{first}", flush=True)
                print(*(f"{'':>10}{chosen.shuffled} shuffled heads: {line}" for line in more), sep="\n", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
