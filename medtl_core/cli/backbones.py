"""`medtl backbones list|fetch|pack|unpack`: which networks can be read, and their weights before a run."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import click
import typer

from medtl_core.cli import console
from medtl_core.errors import WeightsError

if TYPE_CHECKING:
    from medtl_core.backbones.backbone import Backbone
    from medtl_core.recipes.recipe import Recipe

backbones_app = console.group("List pretrained backbones; fetch, pack and unpack weights before a run.")

To = Annotated[
    Path | None, typer.Option("--to", metavar="DIR", help="Folder of backbones; left out, the one that runs read.")
]
Recipes = Annotated[Path | None, typer.Option("--recipe", metavar="FILE", help="TOML file with recipes of your own.")]


@backbones_app.callback(invoke_without_command=True, no_args_is_help=False)
def everything(ctx: typer.Context) -> None:
    """List pretrained backbones; fetch, pack and unpack weights before a run."""
    if ctx.invoked_subcommand is None:
        list_()


@backbones_app.command("list")
def list_(recipe: Recipes = None) -> None:
    """List pretrained backbones, where weights are present, and what can be fetched.

    "rich" and "plain" are the layers that the setting `features` reads. Own weights: own:NAME, file:PATH, timm:ARCH.
    """
    from medtl_core.backbones.zoo import BACKBONES, find_backbone, own_names
    from medtl_core.recipes.recipe import MOST_BYTES, recipes

    shown = console.table_of("backbone", "pixels", "rich", "plain", "weights", "licence", "trained on")
    for row in [*BACKBONES.values(), *(find_backbone(f"own:{name}") for name in own_names())]:
        origin = (row.licence or "unknown", ", ".join(row.trained_on) or "unknown")
        shown.add_row(row.name, str(row.size), " ".join(row.rich), " ".join(row.plain), _presence(row), *origin)
    fetched = console.table_of("to fetch", "becomes", "MB", "licence", "gate", "trained on")
    for name, each in recipes(recipe).items():
        size = f"{each.bytes / 1e6:.0f}" if each.bytes != MOST_BYTES else "unknown"
        sets = ", ".join(each.facts.get("trained_on", ())) or "unknown"
        fetched.add_row(name, f"own:{name}", size, each.licence, each.gate or "none", sets)
    console.show(shown, fetched, width=140, markup=False)


def _presence(backbone: "Backbone") -> str:
    from medtl_core.backbones.weights import locate

    try:
        locate(backbone)
    except WeightsError:
        return "not here"
    return "here"


@backbones_app.command("fetch")
def fetch(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A recipe's name; see `medtl backbones list`.")],
    accept_licence: Annotated[str, typer.Option(metavar="LICENCE", help="Name of the licence that you accept.")] = "",
    to: To = None,
    recipe: Recipes = None,
    quiet: console.Quiet = False,
) -> None:
    """Fetch weights by HTTPS on a connected machine, check them, and keep them as own:NAME. No run ever does."""
    from medtl_core.backbones.zoo import own_folder
    from medtl_core.recipes import fetch as fetching
    from medtl_core.recipes.recipe import find_recipe

    chosen, log = find_recipe(name, recipe), console.console_of(stderr=True, quiet=quiet)
    console.say(log, f"{chosen.url}, SHA-256 {chosen.sha256}")
    console.say(log, f"licence of {name}: {chosen.licence} {chosen.licence_url}")
    accepted = accept_licence or _asked(chosen)
    place = fetching.fetch(chosen, accepted, to or own_folder(), lambda size: console.say(log, f"{size / 1e6:.0f} MB"))
    use = f"backbone=own:{name}" if to is None else f"backbone=file:{place}"
    console.show(f"weights  {place}", f"licence  {chosen.licence}", f"use      {use}")


def _asked(recipe: "Recipe") -> str:
    """The licence that a person at a terminal accepts when asked; "" where nobody can be asked."""
    console.show(recipe.licence_text)
    if not sys.stdin.isatty():
        return ""
    return str(click.prompt(f"type {recipe.licence} to accept it", default="", show_default=False))


@backbones_app.command("pack")
def pack(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The backbone own:NAME.")],
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="The archive; left out, NAME.zip here.")] = None,
) -> None:
    """Pack own:NAME with its licence into one archive for a hospital, where the licence allows it."""
    from medtl_core.backbones.zoo import own_folder
    from medtl_core.recipes import pack as packing

    archive = out or Path(f"{name}.zip")
    sha = packing.pack(name, own_folder(), archive)
    console.show(f"archive  {archive.absolute()}", f"SHA-256  {sha}")


@backbones_app.command("unpack")
def unpack(
    archive: Annotated[Path, typer.Argument(metavar="FILE", help="What `medtl backbones pack` wrote.")], to: To = None
) -> None:
    """Check an archive and keep its backbone as own:NAME."""
    from medtl_core.backbones.zoo import backbone_file, own_folder
    from medtl_core.recipes import pack as packing

    place = packing.unpack(archive, to or own_folder())
    use = f"backbone=own:{place.stem}" if to is None else f"backbone=file:{place}"
    console.show(f"weights  {place}", f"licence  {backbone_file(use, place).licence}", f"use      {use}")


COMMANDS = {"backbones": backbones_app}
