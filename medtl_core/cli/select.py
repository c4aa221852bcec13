"""Choosing the source: `medtl select` runs a federation for every backbone and orders backbones x taps by their scores.

Every score comes out of the real run: methods `taps@...` on the same two apps as any other method. With `measure`, the
discriminant of every candidate is judged on the server's test cases too, and the scores on it.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from medtl_core.backbones.backbone import Backbone
from medtl_core.backbones.weights import locate
from medtl_core.backbones.zoo import find_backbone
from medtl_core.cli import console
from medtl_core.cli.app_folder import find_app
from medtl_core.cli.plan import RunOrder, make_plan, name_data, new_folder
from medtl_core.cli.ranking import Candidate, agreement, ranked
from medtl_core.cli.simulate import simulate_shown
from medtl_core.config import Value
from medtl_core.errors import ConfigError, did_you_mean, one_of
from medtl_core.flower.run import RunPlan
from medtl_core.report.terminal import agreement_table, ranking_table
from medtl_core.store import read_json, write_json

#: The score that orders the table: the one the cheaper ones are held against.
STANDARD = "cv-loss"
#: Taps a backbone is judged on at least, where it has so many.
_LEAST = 4


@dataclass(frozen=True)
class CandidateTaps:
    """One backbone and what of it is judged.

    Attributes:
        backbone: its record.
        taps: read in one pass, by depth.
        joined: taps judged side by side as a further candidate; empty = none.
    """

    backbone: Backbone
    taps: tuple[str, ...]
    joined: tuple[str, ...] = ()

    @property
    def candidates(self) -> tuple[str, ...]:
        """The words behind "taps@": each tap alone, then the joined ones."""
        return (*self.taps, *(("+".join(self.joined),) if self.joined else ()))


@dataclass(frozen=True)
class Selection:
    """What was asked.

    Attributes:
        data: folder, file or catalog name.
        sources: from `read_sources`.
        assignments: further settings, `key=value`.
        weights: folder of folders with the backbones' weights; "" = where their records say.
        measure: whether to judge every candidate on the server's test cases.
        seeds, workers: as `medtl simulate` has them.
        out: run folder; None = a new one below ./runs. What is complete in it is not run again.
    """

    data: str
    sources: Sequence[CandidateTaps]
    assignments: Sequence[str] = ()
    weights: str = ""
    measure: bool = False
    seeds: int = 1
    workers: int | None = None
    out: Path | None = None


def read_sources(text: str, taps: str = "rich") -> tuple[CandidateTaps, ...]:
    """Returns the sources of a comma-separated list: "NAME", or "NAME@4+7" to name the taps.

    Args:
        text: the list.
        taps: for backbones without their own: "rich" = the record's rich taps, its deepest, and as many more as make
            four; "all" = every tap. In both the rich taps side by side are one more candidate.

    Raises:
        ConfigError: a backbone or tap is unknown, a backbone stands there twice, or the list is empty.

    Example:
        >>> read_sources("lite0")[0].candidates
        ('4', '7', '10', 'final', '4+7+10')
    """
    one_of("taps", taps, ("rich", "all"))
    words = [word.strip() for word in text.split(",") if word.strip()]
    if not words:
        raise ConfigError("backbones is empty; name at least one, e.g. --backbones lite0,torchvision:squeezenet1_1")
    sources = tuple(_source(word, taps) for word in words)
    names = [source.backbone.name for source in sources]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise ConfigError(f"backbone {twice!r} is named twice; join its taps: {twice}@4+7")
    return sources


def select(order: Selection, app: Path, run: Callable[[RunPlan], object]) -> dict[str, Any]:
    """Runs every source and returns the ranking, JSON-able; it also lies in the run folder as `selection.json`.

    Args:
        order: what to do.
        app: folder of the Flower app.
        run: carries out a plan.

    Raises:
        MedtlError: data, backbone, weights or settings cannot be used; all are checked before the first run.
    """
    out = order.out or new_folder("select")
    plans = [(source, _plan(source, order, app, out)) for source in order.sources]
    candidates: list[Candidate] = []
    for source, plan in plans:
        if not is_done(plan):
            run(plan)
        candidates += _candidates(source.backbone.name, plan, order.measure)
    selection = {
        "data": order.data,
        "seeds": order.seeds,
        "out": str(out),
        "candidates": ranked(candidates, by=STANDARD),
        "agreement": agreement(candidates) if order.measure else [],
        "by_seed": [vars(candidate) for candidate in candidates],
    }
    write_json(out / "selection.json", selection)
    return selection


def _source(word: str, taps: str) -> CandidateTaps:
    name, _, asked = word.partition("@")
    if name == "table":
        raise ConfigError("a table has no backbone to choose; name image backbones")
    backbone = find_backbone(name)
    known = list(backbone.taps)
    if not asked:
        chosen = set(known) if taps == "all" else {*backbone.rich, known[-1]}
        step = max(len(known) // _LEAST, 1)
        for tap in [*known[step - 1 :: step], *known]:
            if len(chosen) < min(_LEAST, len(known)):
                chosen.add(tap)
        joined = backbone.rich if len(backbone.rich) > 1 else ()
        return CandidateTaps(backbone, tuple(tap for tap in known if tap in chosen), joined)
    wanted = asked.split("+")
    for tap in wanted:
        if tap not in known:
            raise ConfigError(f"{word}: backbone {name!r} has no tap {tap!r}; {did_you_mean(tap, known)}")
    return CandidateTaps(backbone, tuple(tap for tap in known if tap in wanted))


def _plan(source: CandidateTaps, order: Selection, app: Path, out: Path) -> RunPlan:
    """The plan of one source; its weights are looked for now, so that nothing runs before all of them are here."""
    backbone = source.backbone
    weights = "" if backbone.source in ("random", "file") else order.weights
    locate(backbone, weights)
    methods = ",".join(f"taps@{taps}" for taps in source.candidates)
    words = [*order.assignments, f"backbone={backbone.name}", f"features={'+'.join(source.taps)}", f"methods={methods}"]
    usual: dict[str, Value] = {"partition": _partition(order.data), "bootstrap": 1, "weights": weights}
    folder = out / re.sub(r"[^\w.-]+", "-", backbone.name)
    return make_plan(RunOrder(None, words, order.data, order.seeds, order.workers, None, folder), app, usual)


def _partition(data: str) -> str:
    """The split over hospitals that suits the data, as the catalog has it."""
    from medtl_core.data.catalog import catalog, recognise

    named = name_data(data)
    entry = catalog()[str(named["data"])] if named["data"] else recognise(Path(str(named["data-path"])))
    return entry.partition if entry else "natural"


def is_done(plan: RunPlan) -> bool:
    """Returns whether the plan's folder holds its finished run, under the same settings and seeds."""
    if not (plan.out / "metrics.json").is_file():
        return False
    stored = read_json(plan.out / "config.json")
    return bool(stored["settings"] == plan.settings.public() and stored["seeds"] == plan.seeds)


def _candidates(backbone: str, plan: RunPlan, measure: bool) -> list[Candidate]:
    candidates = []
    for seed in range(plan.settings.seed, plan.settings.seed + plan.seeds):
        methods = read_json(plan.out / f"seed-{seed}" / "result.json")["methods"]
        for method in methods.values():
            taps, width, scores = (method["facts"][key] for key in ("taps", "width", "scores"))
            figures = {key: value for key, value in method["figures"].items() if measure and value is not None}
            candidates.append(Candidate(backbone, taps, seed, width, scores, figures))
    return candidates


def select_command(
    data: Annotated[str, typer.Option(metavar="DIR", help="Folder or file of the target's data.")],
    backbones: Annotated[
        str, typer.Option(metavar="NAMES", help="Separated by commas; NAME@4+7 names the taps of one.")
    ] = "lite0,torchvision:squeezenet1_1,torchvision:mobilenet_v2",
    taps: Annotated[str, typer.Option(help="Layers of each backbone: rich (at least four) or all.")] = "rich",
    weights: Annotated[str, typer.Option(metavar="DIR", help="Folder with a folder of weights a backbone.")] = "",
    shots: Annotated[int | None, typer.Option(help="Labelled training cases of each hospital; 0 = all.")] = None,
    sites: Annotated[int | None, typer.Option(help="Hospitals.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of the first repetition.")] = None,
    seeds: Annotated[int, typer.Option(help="Repetitions with other draws of the training cases.")] = 1,
    measure: Annotated[bool, typer.Option("--measure", help="Judge every candidate on test cases, too.")] = False,
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
    order = Selection(data, read_sources(backbones, taps), words, weights, measure, seeds, workers, out)
    selection = select(order, find_app(app), lambda plan: simulate_shown(plan, quiet))
    if as_json:
        console.show_json(selection)
    else:
        tables = [ranking_table(selection), *([agreement_table(selection)] if measure else [])]
        console.show(*tables, f"run folder  {selection['out']}")


COMMANDS = {"select": console.command(select_command)}
