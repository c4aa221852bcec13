"""`medtl predict`: a saved head answers new cases, on this machine."""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from medtl_core.cli import console
from medtl_core.cli.maps import compared, with_maps
from medtl_core.cli.plan import cores, name_data
from medtl_core.data.source import open_source
from medtl_core.errors import ConfigError, did_you_mean
from medtl_core.predict.alike import OwnCases
from medtl_core.predict.answer import Answer, unseen
from medtl_core.predict.dicom_report import write_reports
from medtl_core.predict.fhir import fhir_lines
from medtl_core.predict.output import FORMS, NOTICE, Heading
from medtl_core.predict.parts import explained
from medtl_core.predict.predictor import Predictor, load

_EACH = "Each finding has a probability of its own, as if it were as often there as not."
_EQUAL = "All classes are taken as equally common; say how common they are where you work with --prevalence."
_BEYOND = ", beyond what the own cases of other classes show there"
#: Every form of standard output or a file; "dicom" writes files into a folder.
_FORMS = {**FORMS, "fhir": fhir_lines}
#: Forms that say no more than probabilities and answers.
_WITHOUT_PARTS = ("csv", "fhir", "dicom")
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
    if lacking := ", ".join(unseen(predictor.classifier)):
        basis += (
            f" Of {lacking} the training cases were all with or all without it: there is no answer."
            if predictor.tells_findings
            else f" This head had no training case of {lacking}: it never answers so, whatever a case shows."
        )
    over = predictor.thresholds.sentence if predictor.thresholds else ""
    limit = predictor.outliers.promise if predictor.outliers else ""
    return Heading(predictor.classes, predictor.version, basis, _promise(predictor), over, limit)


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


def _tell_left(left: Sequence[str]) -> None:
    if left:
        more = f" and {len(left) - _SHOWN} more" if len(left) > _SHOWN else ""
        console.say(console.console_of(stderr=True), f"left as no case: {', '.join(left[:_SHOWN])}{more}")


def _counted(answers: Iterator[Answer], faults: list[str], total: int, tell: console.Listener) -> Iterator[Answer]:
    for done, answer in enumerate(answers, start=1):
        if answer.fault:
            faults.append(answer.name)
        tell({"kind": "seed", "phase": "cases", "done": done, "of": total})
        yield answer


def neighbours_of(predictor: Predictor, place: str) -> OwnCases:
    """Returns the hospital's own labelled cases as a head reads them; their features stay in its cache.

    Raises:
        ConfigError, DataError: see `open_source` and `OwnCases.of`.
    """
    named = {word.replace("-", "_"): value for word, value in name_data(place).items()}
    chosen = predictor.settings.replace(**named, test_path=place, cache="")  # a test path: none is held out
    return OwnCases.of(open_source(chosen), chosen, predictor.views, cores())


def _write(lines: Iterator[str], out: Path | None) -> None:
    """Writes lines; a file has its name once it is whole. A letter that no encoding has stands as its escape."""
    safe = (f"{line}\n".encode(errors="backslashreplace").decode() for line in lines)
    if out is None:
        sys.stdout.writelines(safe)
        return
    begun = out.with_name(f"{out.name}.partial")
    with begun.open("w", encoding="utf-8") as file:
        file.writelines(safe)
    begun.rename(out)


def _archive(answers: Iterator[Answer], heading: Heading, folder: Path, predictor: Predictor) -> None:
    """Writes DICOM files, and a line a case on standard output."""
    try:
        attributor = predictor.attributor()
    except ConfigError:
        attributor = None
    for line in FORMS["text"](write_reports(answers, heading, folder, attributor), heading):
        sys.stdout.write(f"{line}\n")


def _check_asked(form: str, out: Path | None, maps: Path | None, *, explain: bool) -> None:
    if form not in (*_FORMS, "dicom"):
        raise ConfigError(f"--format {form!r} is unknown; {did_you_mean(form, (*_FORMS, 'dicom'))}")
    if form == "dicom" and out is None:
        raise ConfigError("--format dicom writes files; name a new folder with --out")
    for option, place in (("out", out), ("maps", maps)):
        if place is not None:
            console.refuse_written(place, option)
    if explain and form in _WITHOUT_PARTS:
        raise ConfigError(f"--format {form} does not hold what --explain tells; take text, json, jsonl or html")


def predict(
    head: Annotated[Path, typer.Argument(metavar="HEAD", help="A saved head, in a run's heads folder.")],
    inputs: Annotated[
        list[Path],
        typer.Argument(metavar="INPUT...", help="Images, scans, notes, folders of them; or one CSV table."),
    ],
    form: Annotated[str, typer.Option("--format", help=f"One of {', '.join(_FORMS)}, dicom.")] = "text",
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="New file, of dicom a folder; standard output if left out.")
    ] = None,
    prevalence: Annotated[
        list[str] | None, typer.Option(metavar="CLASS=SHARE,...", help="How common each class is there.")
    ] = None,
    least: Annotated[float, typer.Option(help="Answer nothing where the likeliest class is less probable.")] = 0.0,
    maps: Annotated[
        Path | None, typer.Option(metavar="DIR", help="New folder of what shows where each answer comes from.")
    ] = None,
    occlusion: Annotated[
        bool, typer.Option("--occlusion", help="Draw maps by covering places; slower, for any head on images.")
    ] = False,
    explain: Annotated[
        bool, typer.Option("--explain", help="Tell what each column, place, word or span adds.")
    ] = False,
    alike: Annotated[
        str, typer.Option(metavar="DIR", help="Your own labelled cases; the most similar ones are named.")
    ] = "",
    weights: Annotated[str, typer.Option(metavar="PATH", help="File or folder with the backbone's weights.")] = "",
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
) -> None:
    """Let a saved head answer new cases, on this machine; a case that cannot be read costs that case only.

    Exit code 1 says that some case has no answer because it could not be read.
    """
    _check_asked(form, out, maps, explain=explain)
    shares, predictor = read_prevalence(prevalence or ()), load(head, weights=weights, device=device)
    table = predictor.settings.backbone == "table" or len(predictor.settings.kinds) > 1
    predictor = replace(
        predictor, explains=explain and table, neighbours=neighbours_of(predictor, alike) if alike else None
    )
    cases = predictor.cases(inputs)
    _tell_left(cases.left)
    answers = predictor.answers(cases, prevalence=shares, least=least, workers=cores())
    on_page = explain and form == "html" and predictor.settings.kinds == {"image"}
    if explain and not table:
        answers = explained(answers, predictor, cases, mapped=on_page)
    if maps is not None:
        answers = with_maps(answers, predictor, cases, maps, occlusion=occlusion)
    elif on_page:
        answers = compared(answers, predictor.attributor(), cases)
    faults, telling, heading = list[str](), console.console_of(stderr=True), heading_of(predictor, shares)
    heading = replace(heading, maps=_BEYOND if alike else "") if on_page else heading
    watched = telling.is_terminal and not (out is None and sys.stdout.isatty())
    with console.progress_shown(telling, quiet=not watched) as tell:
        answers = _counted(answers, faults, len(cases.names) + len(cases.faults), tell)
        if form == "dicom" and out is not None:
            _archive(answers, heading, out, predictor)
        else:
            _write(_FORMS[form](answers, heading), out)
    console.say(telling, NOTICE)
    if faults:
        raise typer.Exit(1)


COMMANDS = {"predict": console.command(predict)}
