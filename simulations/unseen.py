"""The unseen-hospital experiment: train on some hospitals, judge on one that took no part.

`python -m simulations.unseen sites --data DIR` leaves out every natural site in turn and judges on its cases; the
others train. `python -m simulations.unseen scanner --data DIR` gives every hospital a synthetic scanner of its own and
judges on scanners that no hospital has (METHODS section 4). Both run the real server and client apps, keep their runs
in `--out` and go on where they broke off. The table is Markdown: each method against a baseline, paired by seed and
site, with a t-interval over seeds x sites and a bootstrap over the patients of the unseen site. Seeds draw other
training cases, not other test cases, so the two intervals answer different questions: read both.
"""

import argparse
import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from medtl_core.config import Value
from medtl_core.errors import MedtlError
from medtl_core.evaluation.formulas import Float
from medtl_core.evaluation.intervals import strata
from medtl_core.federation.model import Classifier
from medtl_core.flower.run import Plan
from medtl_core.rng import stream
from medtl_core.values import Scores
from simulations.spread import over

ROOT = Path(__file__).resolve().parents[1]
BASELINE = "discriminant"
METHODS = (
    BASELINE, "discriminant-standardised", "discriminant-nuisance", "discriminant-nuisance-10",
    "discriminant-nuisance-cv", "fedavg-20", "network-20", "adversarial-20-0", "adversarial-20", "adversarial-20-1",
)  # fmt: skip
_FIGURES = ("balanced_accuracy", "auroc")


@dataclass(frozen=True)
class Cell:
    """One unseen site, or one set of unseen scanners, under several seeds.

    Attributes:
        name: of the site; folder of its run.
        changes: settings that leave it out.
    """

    name: str
    changes: Mapping[str, Value]


@dataclass(frozen=True)
class Judged:
    """What a cell's runs gave, by method.

    Attributes:
        figures: name of the figure -> one value a seed, None where it is undefined.
        told: how well the hospital is told from an adapter's output, one value a seed; empty for other methods.
        resampled: float64 [B], balanced accuracy averaged over seeds, under the same B draws of patients everywhere.
    """

    figures: Mapping[str, Mapping[str, list[Any]]]
    told: Mapping[str, list[float]]
    resampled: Mapping[str, Float]


def cells(protocol: str, plan: Plan, cases: str) -> list[Cell]:
    """Returns the cells of a protocol: one a natural site for "sites", a single one for "scanner"."""
    from medtl_core.data.source import open_source

    if protocol == "scanner":
        return [Cell("unseen scanners", {"shift": "scanner"})]
    names = np.unique(open_source(plan.settings).examples["site"]).tolist()
    ending = {"all": "", "test": ":test"}[cases]
    return [Cell(name, {"leave_out": f"{name}{ending}"}) for name in names]


def run(cell: Cell, plan: Plan) -> Plan:
    """Runs a cell unless it is done, and returns its plan; what a broken run left is removed first."""
    from medtl_core.cli.simulate import simulate

    own = replace(plan, settings=plan.settings.replace(**cell.changes), out=plan.out / cell.name, name=cell.name)
    if not _done(own):
        shutil.rmtree(own.out, ignore_errors=True)
        simulate(own)
    return own


def judged(plan: Plan, resamples: int) -> Judged:
    """Reads a cell's results and answers its test cases again with the heads it saved, for the paired bootstrap."""
    figures: dict[str, dict[str, list[Any]]] = {}
    told: dict[str, list[float]] = {}
    draws: dict[str, list[Float]] = {}
    for number in range(plan.seeds):
        folder = plan.out / f"seed-{plan.settings.seed + number}"
        result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
        for name, record in result["methods"].items():
            for figure in _FIGURES:
                figures.setdefault(name, {}).setdefault(figure, []).append(record["figures"][figure])
            if "hospital_accuracy" in record["facts"]:
                told.setdefault(name, []).append(record["facts"]["hospital_accuracy"])
        for name, values in _resampled(folder, result, resamples).items():
            draws.setdefault(name, []).append(values)
    return Judged(figures, told, {name: np.mean(values, axis=0) for name, values in draws.items()})


def _resampled(folder: Path, result: Mapping[str, Any], resamples: int) -> dict[str, Float]:
    from medtl_core.config import settings
    from medtl_core.evaluation.weighted import weighted
    from server.testset import open_reference

    cases = open_reference(settings(result["settings"]), workers=1).cases
    assert cases is not None  # both protocols judge at the server
    found: dict[str, Float] = {}
    for name in result["methods"]:
        classifier = load(folder / "heads" / f"{name}.json")
        scores = cases.scores(classifier.logits(cases.values, cases.material))
        counts = patient_draws(scores, resamples)
        found[name] = weighted(scores, counts, ["balanced_accuracy"])["balanced_accuracy"]
    return found


def load(path: Path) -> Classifier:
    """Returns a saved head or model."""
    from medtl_core.federation.registry import unpack
    from medtl_core.federation.saved import is_model, load_head, load_packed

    return unpack(*load_packed(path)) if is_model(path) else load_head(path)


def patient_draws(scores: Scores, resamples: int) -> Float:
    """Returns how often each case counts, float64 [n, B]: patients with replacement within strata, as `intervals` does.

    The draws depend on the cases alone, so that they are the same for every method and seed.
    """
    patient, stratum = strata(scores)
    rng = stream(0, "unseen", "bootstrap")
    drawn = np.zeros((len(stratum), resamples))
    for one in np.unique(stratum):
        members = np.flatnonzero(stratum == one)
        drawn[members] = rng.multinomial(len(members), np.full(len(members), 1 / len(members)), size=resamples).T
    return drawn[patient]


def table(found: Mapping[str, Judged], baseline: str) -> str:
    """Returns the Markdown table of all cells: percent, 95 % intervals."""
    sites = list(found)
    head = ["method", "balanced accuracy", "AUROC", f"against `{baseline}`", "patient bootstrap", "hospital told"]
    rows = [[*head, *(sites if len(sites) > 1 else [])]]
    rows.append(["-"] * len(rows[0]))
    for name in next(iter(found.values())).figures:
        values = {figure: [one for cell in found.values() for one in cell.figures[name][figure]] for figure in _FIGURES}
        per_site = [float(np.mean(cell.figures[name]["balanced_accuracy"])) for cell in found.values()]
        told = [one for cell in found.values() for one in cell.told.get(name, ())]
        rows.append(
            [
                f"`{name}`", *(over(values[figure]) for figure in _FIGURES), *_versus(found, name, baseline),
                f"{100 * np.mean(told):.1f}" if told else "-",
                *((f"{100 * value:.1f}" for value in per_site) if len(sites) > 1 else ()),
            ]
        )  # fmt: skip
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _versus(found: Mapping[str, Judged], name: str, baseline: str) -> tuple[str, str]:
    """The paired difference in balanced accuracy with its t-interval, and the patient bootstrap's interval."""
    if name == baseline or not all(baseline in cell.figures for cell in found.values()):
        return "-", "-"
    ours, theirs = (
        [one for cell in found.values() for one in cell.figures[method]["balanced_accuracy"]]
        for method in (name, baseline)
    )
    draws = np.mean([cell.resampled[name] - cell.resampled[baseline] for cell in found.values()], axis=0)
    low, high = np.quantile(draws, [0.025, 0.975])
    differences = [one - other for one, other in zip(ours, theirs, strict=True)]
    return over(differences, sign="+"), f"{100 * low:+.1f} to {100 * high:+.1f}"


def _done(plan: Plan) -> bool:
    """Whether the folder holds a finished run of exactly these settings and seeds."""
    try:
        config = json.loads((plan.out / "config.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return False

    same = config["settings"] == plan.settings.public() and config["seeds"] == plan.seeds
    return same and (plan.out / "metrics.json").is_file()


def _plan(chosen: argparse.Namespace) -> Plan:
    from medtl_core.cli.plan import Order, make_plan

    order = Order(
        chosen.scenario, [*chosen.set, f"methods={chosen.methods}"], str(chosen.data) if chosen.data else None,
        chosen.seeds, chosen.workers, None, chosen.out,
    )  # fmt: skip
    return make_plan(order, ROOT)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a protocol and prints its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("protocol", choices=("sites", "scanner"))
    parser.add_argument("--data", type=Path, help="folder of the data set")
    parser.add_argument("--scenario", help="a scenario's name or TOML file")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="settings, as for medtl simulate")
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--baseline", default=BASELINE)
    parser.add_argument("--cases", choices=("all", "test"), default="all", help="of the site left out")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--resamples", type=int, default=500, help="of the patients of the unseen site")
    parser.add_argument("--out", type=Path, required=True, help="where runs are kept")
    chosen = parser.parse_args(arguments)
    try:
        plan = _plan(chosen)
        found = {}
        for cell in cells(chosen.protocol, plan, chosen.cases):
            done = run(cell, plan)
            found[cell.name] = judged(done, chosen.resamples)
            print(f"{cell.name}: {plan.seeds} seed(s) done", file=sys.stderr, flush=True)
    except MedtlError as error:
        parser.exit(1, f"error: {error}\n")
    print(table(found, chosen.baseline))
    return 0


if __name__ == "__main__":
    sys.exit(main())
