"""`medtl export` and `medtl card`: a head for other programs, and the model card of a run."""

from pathlib import Path
from typing import Annotated

import typer

from medtl_core.cli import console
from medtl_core.errors import ConfigError, RunError, did_you_mean
from medtl_core.export.card import card as card_of
from medtl_core.export.write import KINDS, TOLERANCE, write
from medtl_core.predict.predictor import load


def export(
    head: Annotated[Path, typer.Argument(metavar="HEAD", help="A saved head, in a run's heads folder.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="New folder.")],
    to: Annotated[str, typer.Option(help=f"One of {', '.join(KINDS)}.")] = "onnx",
    weights: Annotated[str, typer.Option(metavar="PATH", help="File or folder with the backbone's weights.")] = "",
) -> None:
    """Write a saved head with its network for other programs: ONNX, torch.export or safetensors.

    What was written is read back and compared with `medtl predict`; where it answers otherwise, nothing is kept.
    """
    if to not in KINDS:
        raise ConfigError(f"--to {to!r} is unknown; {did_you_mean(to, KINDS)}")
    written = write(load(head, weights=weights, device="cpu"), to, out)
    differs = f"largest difference of a probability {written.difference:.1e} on {written.cases} cases"
    console.show(str(written.model), f"{differs} (at most {TOLERANCE:g})")


def card(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder, as `medtl simulate` printed it.")],
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="New file; standard output if left out.")] = None,
    name: Annotated[str, typer.Option(help="Title; the run's own if left out.")] = "",
) -> None:
    """Write the model card of a run: what it knows filled in, what it cannot know as named blanks."""
    text = card_of(run, name)
    if out is None:
        typer.echo(text, nl=False)
        return
    try:
        with out.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise RunError(f"{out} exists already; choose another name with --out") from None


COMMANDS = {"export": console.command(export), "card": console.command(card)}
