"""The unseen-hospital experiment: train on some hospitals, judge on one that took no part.

`python -m simulations.unseen --data DIR` leaves out every natural site in turn and judges on its cases; the others
train. It runs the real server and client apps, keeps its runs in `--out` and goes on where it broke off. The table is
Markdown: each method against a baseline, paired by seed and site, with a t-interval over seeds x sites. Seeds draw
other training cases, not other test cases: the interval says nothing about other patients of the unseen sites.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from medtl_core.config import Value, read_assignments, settings
from medtl_core.data.source import open_source
from medtl_core.errors import MedtlError
from medtl_core.evaluation.result import MethodResult
from simulations.experiments import named, records, run_once
from simulations.intervals import markdown, over

BASELINE = "discriminant"
METHODS = (
    BASELINE, "discriminant-standardised", "discriminant-nuisance", "discriminant-nuisance-cv", "fedavg-20",
    "network-20", "adversarial-20-0", "adversarial-20", "adversarial-20-1",
)  # fmt: skip

#: Unseen site -> method -> seed -> how it did.
Found = Mapping[str, Mapping[str, Mapping[int, MethodResult]]]


def cells(values: Mapping[str, Value], cases: str) -> dict[str, dict[str, Value]]:
    """Returns what changes in each run, one a natural site."""
    names = np.unique(open_source(settings(values)).examples["site"]).tolist()
    ending = {"all": "", "test": ":test"}[cases]
    return {name: {"leave-out": f"{name}{ending}"} for name in names}


def table(found: Found, baseline: str) -> str:
    """Returns the Markdown table of all cells: percent, 95 % intervals."""
    sites = list(found) if len(found) > 1 else []
    rows = []
    for name in next(iter(found.values())):
        accuracies = {site: _figures(methods[name], "balanced_accuracy") for site, methods in found.items()}
        areas = [value for methods in found.values() for value in _figures(methods[name], "auroc")]
        facts = [record.facts for methods in found.values() for record in methods[name].values()]
        told = [fact["hospital_accuracy"] for fact in facts if "hospital_accuracy" in fact]
        rows.append(
            (
                f"`{name}`", over([value for values in accuracies.values() for value in values]), over(areas),
                _versus(found, name, baseline), f"{100 * fmean(told):.1f}" if told else "-",
                *(f"{100 * fmean(accuracies[site]):.1f}" for site in sites),
            )
        )  # fmt: skip
    return markdown(("method", "balanced accuracy", "AUROC", f"against `{baseline}`", "hospital told", *sites), rows)


def _figures(by_seed: Mapping[int, MethodResult], name: str) -> list[Any]:
    return [by_seed[seed].judgement.figures[name] for seed in sorted(by_seed)]


def _versus(found: Found, name: str, baseline: str) -> str:
    """The paired difference in balanced accuracy with its t-interval."""
    if name == baseline or not all(baseline in methods for methods in found.values()):
        return "-"
    ours, theirs = (
        [value for methods in found.values() for value in _figures(methods[method], "balanced_accuracy")]
        for method in (name, baseline)
    )
    return over([our - their for our, their in zip(ours, theirs, strict=True)], sign="+")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs what is not done and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, metavar="DIR", help="folder, file or catalog name")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="settings, as for medtl simulate")
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--baseline", default=BASELINE)
    parser.add_argument("--cases", choices=("all", "test"), default="all", help="of the site left out")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, required=True, help="where runs are kept")
    chosen = parser.parse_args(arguments)
    try:
        values = {**named(chosen.data), **read_assignments(chosen.set), "methods": chosen.methods}
        found = {}
        for name, changes in cells(values, chosen.cases).items():
            out = chosen.out.absolute() / name
            run_once({**values, **changes}, out, name, seeds=chosen.seeds, workers=chosen.workers)
            found[name] = records(out)
            print(f"{name}: {chosen.seeds} seed(s) done", file=sys.stderr, flush=True)
    except MedtlError as error:
        parser.exit(1, f"error: {error}\n")
    print(table(found, chosen.baseline))
    return 0


if __name__ == "__main__":
    sys.exit(main())
