"""What each part of a case that is no image, such as a word of a note, adds to its answer."""

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from medtl_core.errors import ConfigError
from medtl_core.features.encoders import encoder_of
from medtl_core.predict.answer import Answer
from medtl_core.predict.cases import NewCases
from medtl_core.predict.predictor import Predictor
from medtl_core.values import Head


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
