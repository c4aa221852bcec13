"""`medtl encode`: what one site's records teach of its columns, as a file that other hospitals carry."""

from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from medtl_core.cli import console
from medtl_core.cli.plan import name_data
from medtl_core.config import settings
from medtl_core.data.source import open_source
from medtl_core.errors import ConfigError, did_you_mean
from medtl_core.formats.encoder import Encoder


def encode(
    folder: Annotated[str, typer.Argument(metavar="DIR", help="Folder of the records.")],
    out: Annotated[Path, typer.Option(help="File to write, beside the other hospitals' schema.toml.")],
    site: Annotated[str, typer.Option(help="Site whose training cases teach it; else all there are.")] = "",
    components: Annotated[int, typer.Option(min=0, help="Principal components beside the classes' directions.")] = 4,
) -> None:
    """Fit an encoder of records at one site, for others to carry.

    It holds medians and directions of the site's patients: whether it may leave is the site's decision.
    """
    console.refuse_written(out)
    source = open_source(settings({**name_data(folder), "backbone": "table"}))
    examples = source.examples
    examples.task.tell_classes("medtl encode")
    chosen = examples["split"] != "test"
    if site:
        chosen &= examples["site"] == site
        if not chosen.any():
            names = np.unique(examples["site"]).tolist()
            raise ConfigError(f"no training case is of site {site!r}; {did_you_mean(site, names)}")
    encoder = Encoder.fit(examples["table"][chosen], examples["label"][chosen], source.columns, components)
    sha256 = encoder.save(out)
    lines = ("Add to schema.toml of every hospital:", "[encoder]", f'file = "{out.name}"', f'sha256 = "{sha256}"')
    console.show(*lines)


COMMANDS = {"encode": console.command(encode)}
