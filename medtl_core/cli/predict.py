"""`medtl predict`: a saved head answers new cases, on this machine."""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import typer

from medtl_core.cli import console
from medtl_core.cli.plan import cores
from medtl_core.errors import ConfigError, RunError, did_you_mean
from medtl_core.predict.answer import Answer
from medtl_core.predict.attribution import save_picture
from medtl_core.predict.output import FORMS, NOTICE, Heading
from medtl_core.predict.parts import with_parts
from medtl_core.predict.predictor import Predictor, load

_EACH = "Each finding has a probability of its own, as if it were as often there as not."
_EQUAL = "All classes are taken as equally common; say how common they are where you work with --prevalence."
#: Files that are named of those that were left.
_SHOWN = 3


def read_prevalence(words: Sequence[str]) -> dict[str, float]:
    """Returns the share of each class from "CLASS=SHARE" words, several in one with commas between.

    Raises:
        ConfigError: a word is none, or names a class twice.

    Example:
        >>> read_prevalence(["ill=0.1,well=0.9"])
        {'ill': 0.1, 'well': 0.9}
    """
    shares: dict[str, float] = {}
    for word in ",".join(words).split(",") if words else ():
        name, _, share = word.rpartition("=")
        try:
            value = float(share)
        except ValueError:
            raise ConfigError(f"prevalence is written CLASS=SHARE, e.g. normal=0.9, not {word!r}") from None
        if not name or name in shares:
            raise ConfigError(f"prevalence names {name!r} twice" if name else f"prevalence {word!r} names no class")
        shares[name] = value
    return shares


def heading_of(predictor: Predictor, prevalence: dict[str, float]) -> Heading:
    """Returns what stands above a predictor's answers."""
    told = ", ".join(f"{name} {share:g}" for name, share in prevalence.items())
    basis = f"Prevalence as given: {told}." if told else _EACH if predictor.tells_findings else _EQUAL
    return Heading(predictor.classes, predictor.version, basis, _promise(predictor))


def _promise(predictor: Predictor) -> str:
    """What the sets of likely classes promise, and of which classes they cannot."""
    conformal = predictor.conformal
    if conformal is None:
        return ""
    text = (
        f"The right class is among the likely ones in {conformal.level:.0%} of cases like those the head was judged on."
    )
    few = conformal.unpromised(predictor.classes)
    return f"{text} Too few cases to promise that of {', '.join(few)}, always named." if few else text


def drawn(answers: Iterator[Answer], predictor: Predictor, folder: Path) -> Iterator[Answer]:
    """Passes answers on, and writes into a new folder what speaks for each one's likeliest class, as pictures.

    Raises:
        ConfigError: the head is not affine on pooled maps.
    """
    explain, number = predictor.attributor().explain, 0
    folder.mkdir(parents=True)
    for answer in answers:
        if answer.probabilities and Path(answer.name).exists():
            likeliest = max(answer.probabilities, key=lambda name: answer.probabilities[name])
            for one in explain(answer.name, likeliest):
                number += 1
                save_picture(one.shown(), folder / f"{number:05d} {Path(answer.name).stem}.png")
        yield answer


def _tell_left(left: Sequence[str]) -> None:
    if left:
        more = f" and {len(left) - _SHOWN} more" if len(left) > _SHOWN else ""
        console.say(console.console_of(stderr=True), f"left as no case: {', '.join(left[:_SHOWN])}{more}")


def _counted(answers: Iterator[Answer], faults: list[str]) -> Iterator[Answer]:
    for answer in answers:
        if answer.fault:
            faults.append(answer.name)
        yield answer


def predict(
    head: Annotated[Path, typer.Argument(metavar="HEAD", help="A saved head, in a run's heads folder.")],
    inputs: Annotated[
        list[Path],
        typer.Argument(metavar="INPUT...", help="Images, scans, notes, folders of them; or one CSV table."),
    ],
    form: Annotated[str, typer.Option("--format", help=f"One of {', '.join(FORMS)}.")] = "text",
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="New file; standard output if left out.")] = None,
    prevalence: Annotated[
        list[str] | None, typer.Option(metavar="CLASS=SHARE,...", help="How common each class is there.")
    ] = None,
    least: Annotated[float, typer.Option(help="Answer nothing where the likeliest class is less probable.")] = 0.0,
    maps: Annotated[
        Path | None, typer.Option(metavar="DIR", help="New folder of what shows where each answer comes from.")
    ] = None,
    weights: Annotated[str, typer.Option(metavar="PATH", help="File or folder with the backbone's weights.")] = "",
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
) -> None:
    """Let a saved head answer new cases, on this machine; a case that cannot be read costs that case only.

    Exit code 1 says that some case has no answer because it could not be read.
    """
    if form not in FORMS:
        raise ConfigError(f"--format {form!r} is unknown; {did_you_mean(form, FORMS)}")
    for option, place in (("out", out), ("maps", maps)):
        if place is not None and place.exists():
            raise RunError(f"{place} exists already; choose another name with --{option}")
    shares, predictor = read_prevalence(prevalence or ()), load(head, weights=weights, device=device)
    cases = predictor.cases(inputs)
    _tell_left(cases.left)
    faults: list[str] = []
    answers = predictor.answers(cases, prevalence=shares, least=least, workers=cores())
    if maps is not None:
        pictures = "image" in predictor.settings.kinds
        answers = drawn(answers, predictor, maps) if pictures else with_parts(answers, predictor, cases, maps)
    lines = FORMS[form](_counted(answers, faults), heading_of(predictor, shares))
    if out is None:
        for line in lines:
            sys.stdout.write(f"{line}\n")
    else:
        with out.open("x", encoding="utf-8") as file:
            file.writelines(f"{line}\n" for line in lines)
    console.say(console.console_of(stderr=True), NOTICE)
    if faults:
        raise typer.Exit(1)


COMMANDS = {"predict": console.command(predict)}
