"""The unseen-hospital experiment: train on some hospitals, judge on one that took no part.

`python -m simulations.unseen --data DIR` leaves out every natural site in turn and judges on its cases; the others
train. It runs the real server and client apps, keeps its runs in `--out` and goes on where it broke off. The table is
Markdown. Seeds draw other training cases, not other test cases: an interval over seeds x sites says nothing about other
patients of the unseen sites.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from medtl_core.cli.plan import name_data
from medtl_core.config import Value, read_assignments, settings
from medtl_core.data.source import open_source
from medtl_core.errors import MedtlError
from medtl_core.evaluation.result import MethodResult
from simulations.experiments import records, run_once
from simulations.paired import Records, comparison

BASELINE = "discriminant"
METHODS = (
    BASELINE, "discriminant-standardised", "discriminant-nuisance", "discriminant-nuisance-cv", "fedavg-20",
    "network-20", "adversarial-20-0", "adversarial-20", "adversarial-20-1",
)  # fmt: skip

#: Unseen site -> method -> seed -> how it did.
Found = Mapping[str, Mapping[str, Mapping[int, MethodResult]]]


def cells(values: Mapping[str, Value]) -> dict[str, dict[str, Value]]:
    """Returns what changes in each run, one a natural site."""
    names = np.unique(open_source(settings(values)).examples["site"]).tolist()
    return {name: {"leave-out": name} for name in names}


def table(found: Found, baseline: str) -> str:
    """Returns Markdown: all sites together, then one by one; differences are paired by seed and site."""
    together: dict[str, dict[tuple[str, int], MethodResult]] = {}
    for site, methods in found.items():
        for name, by_seed in methods.items():
            together.setdefault(name, {}).update({(site, seed): record for seed, record in by_seed.items()})
    tables: dict[str, Records] = {"all sites": together, **found}
    return "\n\n".join(f"### {site}\n\n{comparison(records, [baseline])}" for site, records in tables.items())


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs what is not done and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, metavar="DIR", help="folder, file or catalog name")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="settings, as for medtl simulate")
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--baseline", default=BASELINE)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, required=True, help="where runs are kept")
    chosen = parser.parse_args(arguments)
    try:
        values = {**name_data(chosen.data), **read_assignments(chosen.set), "methods": chosen.methods}
        found = {}
        for name, changes in cells(values).items():
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
