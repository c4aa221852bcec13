"""`medtl select`: a federation for every backbone with methods `taps@...`, then backbones x taps by their scores."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Annotated, Any

import typer

from medtl_core.backbones.weights import locate
from medtl_core.backbones.zoo import find_backbone
from medtl_core.cli import console
from medtl_core.cli.app_folder import find_app
from medtl_core.cli.plan import RunOrder, is_done, make_plan, name_data, new_folder
from medtl_core.cli.simulate import simulate_shown
from medtl_core.config import Value, kind_of
from medtl_core.errors import ConfigError, WeightsError, did_you_mean, one_of
from medtl_core.flower.run import RunPlan
from medtl_core.report.terminal import ranking_table
from medtl_core.store import read_json, write_json

#: The score that orders the table (docs/sources.md).
STANDARD = "cv-loss"
#: Backbones that are compared where nobody names some, the first always and the others where their weights are here.
_USUAL = ("lite0", "torchvision:squeezenet1_1", "torchvision:mobilenet_v2")
#: Backbone -> its candidates, the words behind "taps@": single taps by depth, then taps side by side.
Sources = Mapping[str, Sequence[str]]


def read_sources(text: str, taps: str = "rich") -> dict[str, tuple[str, ...]]:
    """Returns the sources that a list names, separated by commas.

    The text names backbones, or taps of theirs: "NAME@4+7". Else "rich" = the record's rich taps, its deepest, and as
    many more as make four; "all" = every tap. In both the rich taps side by side are one more candidate.

    Raises:
        ConfigError: a backbone or tap is unknown, a backbone stands there twice, or the list is empty.

    Example:
        >>> read_sources("lite0")
        {'lite0': ('4', '7', '10', 'final', '4+7+10')}
    """
    one_of("taps", taps, ("rich", "all"))
    sources: dict[str, tuple[str, ...]] = {}
    for word in filter(None, map(str.strip, text.split(","))):
        name, _, asked = word.partition("@")
        if name in sources:
            raise ConfigError(f"backbone {name!r} is named twice; join its taps: {name}@4+7")
        sources[name] = _candidates(name, asked, taps)
    if not sources:
        raise ConfigError("backbones is empty; name at least one, e.g. --backbones lite0,torchvision:squeezenet1_1")
    return sources


def _usual(weights: str, log: Callable[[str], None]) -> str:
    """The backbones to compare where nobody names some; it says which are not, for want of weights."""
    named = [_USUAL[0]]
    for name in _USUAL[1:]:
        try:
            locate(find_backbone(name), weights)
        except WeightsError:
            log(f"{name} is not compared: its weights are not here (--backbones {name} says where to get them)")
        else:
            named.append(name)
    return ",".join(named)


def _candidates(name: str, asked: str, taps: str) -> tuple[str, ...]:
    if kind_of(name) != "image":
        raise ConfigError(f"{name!r} has no taps to choose; name image backbones")
    backbone = find_backbone(name)
    known, rich = list(backbone.taps), backbone.rich
    chosen = set(asked.split("+")) if asked else set(known) if taps == "all" else {*rich, known[-1]}
    for tap in chosen.difference(known):
        raise ConfigError(f"backbone {name!r} has no tap {tap!r}; {did_you_mean(tap, known)}")
    spaced = known[max(len(known) // 4, 1) - 1 :: max(len(known) // 4, 1)]
    while not asked and len(chosen) < min(4, len(known)):
        chosen.add(next(tap for tap in [*spaced, *known] if tap not in chosen))
    joined = ["+".join(rich)] if len(rich) > 1 and not asked else []
    return (*(tap for tap in known if tap in chosen), *joined)


def select(
    sources: Sources, order: RunOrder, app: Path, run: Callable[[RunPlan], object], weights: str = ""
) -> dict[str, Any]:
    """Runs every source and returns the ranking, JSON-able; it also lies in the run folder as `selection.json`.

    What is complete in the folder of the `order` is not run again; `run` carries out a plan. `weights` is a folder of
    folders with the backbones' weights; "" = where their records say.

    Raises:
        MedtlError: data, backbone, weights or settings cannot be used; all are checked before the first run.
    """
    out, rows = order.out or new_folder("select"), []
    for plan in [_plan(name, sources[name], replace(order, out=out), app, weights) for name in sources]:
        if not is_done(plan):
            run(plan)
        rows += _rows(plan)
    rows.sort(key=lambda row: -row["scores"][STANDARD])
    selection = {"data": order.data, "seeds": order.seeds, "out": str(out), "candidates": rows}
    write_json(out / "selection.json", selection)
    return selection


def _plan(name: str, candidates: Sequence[str], order: RunOrder, app: Path, weights: str) -> RunPlan:
    """The plan of one source; its weights are looked for now, so that nothing runs before all of them are here."""
    from medtl_core.data.readers import named_entry, recognise

    backbone = find_backbone(name)
    place = weights if backbone.takes_weights else ""
    locate(backbone, place)
    named = name_data(order.data or "")
    entry = named_entry(str(named["data"])) if named["data"] else recognise(Path(str(named["data-path"])))
    usual: dict[str, Value] = {"partition": entry.partition if entry else "natural", "bootstrap": 1, "weights": place}
    features = "+".join(taps for taps in candidates if "+" not in taps)
    methods = ",".join(f"taps@{taps}" for taps in candidates)
    words = [*order.assignments, f"backbone={name}", f"features={features}", f"methods={methods}"]
    folder = (order.out or Path()) / re.sub(r"[^\w.-]+", "-", name)
    return make_plan(replace(order, assignments=words, out=folder), app, usual)


def _rows(plan: RunPlan) -> list[dict[str, Any]]:
    """One row a candidate of a finished run, its scores averaged over the seeds."""
    results = [read_json(path)["methods"] for path in sorted(plan.out.glob("seed-*/result.json"))]
    rows = []
    for method, first in results[0].items():
        seeds = [result[method]["facts"]["scores"] for result in results]
        scores = {score: fmean(each[score] for each in seeds) for score in seeds[0]}
        rows.append({"backbone": plan.settings.backbone, "taps": first["facts"]["taps"], "scores": scores})
    return rows


def select_command(
    data: Annotated[str, typer.Option(metavar="DIR", help="Folder or file of the target's data.")],
    backbones: Annotated[
        str,
        typer.Option(
            metavar="NAMES",
            help="Separated by commas; NAME@4+7 names the taps of one. If left out, lite0 and, where their weights are "
            "here, SqueezeNet 1.1 and MobileNetV2.",
        ),
    ] = "",
    taps: Annotated[str, typer.Option(help="Layers of each backbone: rich (at least four) or all.")] = "rich",
    weights: Annotated[str, typer.Option(metavar="DIR", help="Folder with a folder of weights a backbone.")] = "",
    shots: Annotated[int | None, typer.Option(help="Labelled training cases of each hospital; 0 = all.")] = None,
    sites: Annotated[int | None, typer.Option(help="Hospitals.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of the first repetition.")] = None,
    seeds: Annotated[int, typer.Option(help="Repetitions with other draws of the training cases.")] = 1,
    assignments: console.Assignments = None,
    workers: console.Workers = None,
    out: console.Resumable = None,
    app: console.App = None,
    as_json: console.AsJson = False,
    quiet: console.Quiet = False,
) -> None:
    """Order backbones and their layers by how well they suit the hospitals' task, from sums only."""
    given = {"shots": shots, "sites": sites, "seed": seed}
    words = [*(assignments or ()), *(f"{key}={value}" for key, value in given.items() if value is not None)]
    order, log = RunOrder(None, words, data, seeds, workers, None, out), console.console_of(stderr=True, quiet=quiet)
    sources = read_sources(backbones or _usual(weights, lambda words: console.say(log, words)), taps)
    selection = select(sources, order, find_app(app), lambda plan: simulate_shown(plan, quiet), weights)
    if as_json:
        console.show_json(selection)
    else:
        console.show(ranking_table(selection["candidates"]), f"run folder  {selection['out']}")


COMMANDS = {"select": console.command(select_command)}
