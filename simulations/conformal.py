"""Coverage of the likely classes: `python -m simulations.conformal --data DIR`.

For each of 20 seeds `auto` is trained by a scenario's hospitals. Half of the test patients set the floors, the other
half tells how often the set holds the right class: over all cases, as the mean of classes, and at the worst hospital.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np

from medtl_core.config import Settings, read_scenario, settings
from medtl_core.evaluation.scores import select
from medtl_core.predict.conformal import LEVEL, Conformal
from medtl_core.predict.saved import load_head
from medtl_core.rng import stream
from server.testset import open_reference
from simulations.experiments import run_once

ROOT = Path(__file__).resolve().parents[1]
#: Scenario -> the folder of its data.
SETS = {"dermoscopy": "ham10000_sites", "chest-xray": "kermany_cxr224"}
#: Cases of a hospital below which its coverage is chance.
_FEW = 30


def covered(chosen: Settings, head: Path) -> tuple[float, float, float, float]:
    """Returns coverage over all cases, as the mean of classes and at the worst hospital, and the sets' mean size."""
    cases = open_reference(chosen, workers=2).cases
    assert cases is not None
    scores = cases.scores(load_head(head).logits(cases.values))
    half = stream(chosen.seed, "conformal").permutation(np.unique(scores.group))
    first = np.isin(scores.group, half[: len(half) // 2])
    found = Conformal.of_scores(select(scores, first))
    rest = select(scores, ~first)
    inside = found.inside(rest.logits)
    held = inside[np.arange(len(rest.label)), rest.label]
    classes = np.mean([held[rest.label == number].mean() for number in np.unique(rest.label)])
    sites = [held[rest.site == name].mean() for name in np.unique(rest.site) if (rest.site == name).sum() >= _FEW]
    return float(held.mean()), float(classes), float(min(sites)), float(inside.sum(axis=1).mean())


def main() -> int:
    """Prints a line a set."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--seeds", type=int, default=20)
    asked = parser.parse_args()
    print(f"promised {LEVEL:.0%}; coverage of all cases, mean of classes, worst hospital, classes in a set")
    for scenario, folder in SETS.items():
        rows = []
        for seed in range(asked.seeds):
            values = read_scenario(ROOT / "simulations" / "scenarios" / f"{scenario}.toml")
            values |= {"data-path": str(asked.data / folder), "methods": "auto", "seed": seed, "bootstrap": 1}
            with tempfile.TemporaryDirectory() as out:
                run_once({key: value for key, value in values.items() if key != "seeds"}, Path(out) / "run", "coverage")
                (head,) = (Path(out) / "run").glob("seed-*/heads/auto.json")
                rows.append(covered(settings({k: v for k, v in values.items() if k not in ("seeds", "workers")}), head))
        means, worst = np.mean(rows, axis=0), np.min(rows, axis=0)
        print(f"{scenario:<12} {means[0]:.3f} {means[1]:.3f} {worst[2]:.3f} {means[3]:.2f}", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
