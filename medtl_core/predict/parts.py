"""What each part of a case adds to its answer: a word of a note, a span of a signal, a ninth of a picture."""

import csv
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from medtl_core.errors import ConfigError
from medtl_core.features.encoders import encoder_of
from medtl_core.predict.answer import Answer
from medtl_core.predict.attribution import png_of
from medtl_core.predict.cases import NewCases
from medtl_core.predict.gradcam import GradCam
from medtl_core.predict.predictor import Predictor
from medtl_core.values import Array, Head

#: Names of a picture's ninths, from above and from the left as it is shown.
_ROWS, _COLUMNS = ("upper", "middle", "lower"), ("left", "centre", "right")


def parts_of(predictor: Predictor, case: Any, name: str) -> Sequence[tuple[str, float]]:
    """Returns what the parts of a case add to the logit of the class `name` less the mean of the others'.

    Raises:
        ConfigError: the head is not affine, or its encoder tells no parts.
    """
    head = predictor.classifier
    if not isinstance(head, Head):
        raise ConfigError(f"parts are told of affine heads; this is a model of kind {head.kind}")
    if len(predictor.settings.kinds) > 1:
        raise ConfigError("maps are of heads that read one kind; --explain tells what each of several adds")
    own = head.weight[head.classes.index(name)]
    others = (head.weight.sum(axis=0) - own) / max(len(head.classes) - 1, 1)
    return encoder_of(predictor.settings.backbone).parts(case, own - others, predictor.settings)


def with_parts(answers: Iterator[Answer], predictor: Predictor, cases: NewCases, folder: Path) -> Iterator[Answer]:
    """Passes answers on, and writes into a new folder a CSV file for each: its parts, the strongest first.

    The files quote the cases: they belong where the cases lie.

    Raises:
        ConfigError: see `parts_of`.
    """
    column = encoder_of(predictor.settings.backbone).column
    contents = dict(zip(cases.names, cases.examples[column], strict=True))
    folder.mkdir(parents=True, mode=0o700)
    for number, answer in enumerate(answers, start=1):
        if answer.probabilities and answer.name in contents:
            likeliest = max(answer.probabilities, key=lambda name: answer.probabilities[name])
            parts = parts_of(predictor, contents[answer.name], likeliest)
            with (folder / f"{number:05d}.csv").open("x", newline="", encoding="utf-8") as file:
                rows = sorted(parts, key=lambda part: -abs(part[1]))
                csv.writer(file).writerows(
                    [("part", f"for {likeliest}"), *((part, f"{one:.6g}") for part, one in rows)]
                )
        yield answer


def explained(
    answers: Iterator[Answer], predictor: Predictor, cases: NewCases, *, mapped: bool = False
) -> Iterator[Answer]:
    """Passes answers on with what the parts of each case add to its likeliest class, the strongest first.

    Those of a picture are its ninths, of the means of several; of a head whose maps are exact their sums, else shares.
    `mapped` = its map comes along, too: of several pictures that of the one which adds most.

    Raises:
        ConfigError: the head's answers have no such parts.
    """
    pictures = predictor.attributor() if "image" in predictor.settings.kinds else None
    columns = ("path", "image") if pictures else (encoder_of(predictor.settings.backbone).column,)
    column = next(name for name in columns if name in cases.examples.columns)
    contents = dict(zip(cases.names, cases.examples[column], strict=True))
    for answer in answers:
        if not answer.probabilities or answer.name not in contents:
            yield answer
            continue
        case, sums, shown = contents[answer.name], dict[str, float](), b""
        if pictures:
            maps = pictures.explain(case, answer.largest)
            told = ninths(np.mean([one.parts for one in maps], axis=0), shares=isinstance(pictures, GradCam))
            shown = png_of(max(maps, key=lambda one: float(one.parts.sum())).shown()) if mapped else b""
        else:
            told = parts_of(predictor, case, answer.largest)
        for name, part in told:  # a sentence may stand in a note twice
            sums[name] = sums.get(name, 0.0) + part
        yield replace(answer, parts=dict(sorted(sums.items(), key=lambda item: -abs(item[1]))), map=shown)


def ninths(parts: Array, *, shares: bool = False) -> Sequence[tuple[str, float]]:
    """Returns the sums of a map [s, s] over its ninths, each by its name; as shares of all where asked for.

    Example:
        >>> ninths(np.diag([1.0, 2.0, 5.0]), shares=True)[-1]
        ('lower right', 0.625)
    """
    whole = float(parts.sum()) if shares else 1.0
    return [
        (f"{row} {column}", float(square.sum()) / (whole or 1.0))
        for row, band in zip(_ROWS, np.array_split(parts, 3, axis=0), strict=True)
        for column, square in zip(_COLUMNS, np.array_split(band, 3, axis=1), strict=True)
    ]
