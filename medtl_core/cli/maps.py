"""Where answers come from, as pictures in a folder, and a word where they do not hang on what the head learnt."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

from medtl_core.cli import console
from medtl_core.predict.answer import Answer
from medtl_core.predict.attribution import Attributor, png_of
from medtl_core.predict.cases import NewCases
from medtl_core.predict.gradcam import GradCam
from medtl_core.predict.output import printable
from medtl_core.predict.parts import with_parts
from medtl_core.predict.predictor import Predictor
from medtl_core.predict.reasons import Occluder
from medtl_core.rng import stream

#: Maps that are compared with those of shuffled heads, and the correlation from which they say nothing.
_COMPARED, MEANINGLESS = 3, 0.7
#: Letters of a case's name in that of its map: a file's name has an end.
_LETTERS = 60


def pictures_of(cases: NewCases) -> Mapping[str, Any]:
    """Returns the picture of each case by the case's name; a case of several kinds may lack one."""
    named = zip(cases.names, cases.examples["path" if "path" in cases.examples.columns else "image"], strict=True)
    return {name: picture for name, picture in named if len(picture)}


def with_maps(
    answers: Iterator[Answer], predictor: Predictor, cases: NewCases, folder: Path, *, occlusion: bool
) -> Iterator[Answer]:
    """Passes answers on, and writes into a new folder what shows where each comes from; see `drawn`, `with_parts`."""
    if "image" not in predictor.settings.kinds:
        return with_parts(answers, predictor, cases, folder)
    if occlusion:
        return drawn(answers, predictor.occluder(), cases, folder)
    explainer = predictor.attributor()
    return compared(drawn(answers, explainer, cases, folder), explainer, cases)


def drawn(
    answers: Iterator[Answer], explainer: Attributor | GradCam | Occluder, cases: NewCases, folder: Path
) -> Iterator[Answer]:
    """Passes answers on, and writes into a new folder what speaks for each one's likeliest class, as pictures.

    Raises:
        ConfigError: the head is not affine on pooled maps.
    """
    number, pictures = 0, pictures_of(cases)
    folder.mkdir(parents=True)
    for answer in answers:
        if answer.probabilities and answer.name in pictures:
            for one in explainer.explain(pictures[answer.name], answer.largest):
                number += 1
                name = printable(Path(answer.name).stem)[:_LETTERS].strip()
                (folder / f"{number:05d} {name}.png").write_bytes(png_of(one.shown()))
        yield answer


def compared(answers: Iterator[Answer], explainer: Attributor | GradCam, cases: NewCases) -> Iterator[Answer]:
    """Passes answers on, and warns behind them where the first maps hardly depend on what the head learnt."""
    alike, pictures = list[float](), pictures_of(cases)
    for answer in answers:
        if len(alike) < _COMPARED and answer.probabilities and answer.name in pictures:
            dice = stream(0, "maps", str(len(alike)))
            alike.append(explainer.likeness(pictures[answer.name], answer.largest, rng=dice))
        yield answer
    if alike and fmean(alike) > MEANINGLESS:
        console.say(
            console.console_of(stderr=True),
            "warning: the maps hardly depend on what the head learnt: the correlation of the first ones with those of "
            f"shuffled heads is {fmean(alike):.2f}; do not read them",
        )
