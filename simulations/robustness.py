"""Robustness to corrupted images: `python -m simulations.robustness --data DIR --methods A,B --shots 25 --out DIR`.

Classifiers are trained by the usual road, once per seed, and judged on the server's test images as they are and
corrupted. Everything finished is kept in --out and not done again, so an interrupted run goes on where it stopped.
The first method named is the reference of BE and rBE (`simulations.corrupted_heads`).
"""

import argparse
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medtl_core.cli.simulate import simulate
from medtl_core.config import Settings, read_assignments, settings
from medtl_core.data.catalog import recognise
from medtl_core.errors import ConfigError, DataError
from medtl_core.evaluation.scores import balanced_accuracy
from medtl_core.features.dataset import Material
from medtl_core.features.extract import extract
from medtl_core.features.spec import feature_spec
from medtl_core.federation.model import Classifier
from medtl_core.federation.registry import unpack
from medtl_core.federation.saved import is_model, load_head, load_packed
from medtl_core.flower.run import Plan
from medtl_core.rng import stream
from medtl_core.runtime import one_thread
from medtl_core.store import write_json
from server.testset import TestSet, open_reference
from simulations.corrupted_heads import Cell, Robustness, cells, corrupted, robustness
from simulations.spread import over

ROOT = Path(__file__).resolve().parents[1]

#: Method -> balanced accuracy of each seed.
Judged = Mapping[str, Sequence[float]]


@dataclass(frozen=True)
class Study:
    """What is asked for.

    Attributes:
        chosen: settings of the first seed.
        seeds: how many, counting up from the settings' own.
        severities: among 1 to 5.
        cases: at most this many test cases, drawn by seed 0; 0 = all.
        out: folder for trained classifiers, judged cells and the table.
        workers: images worked on at the same time.
    """

    chosen: Settings
    seeds: int
    severities: tuple[int, ...]
    cases: int
    out: Path
    workers: int = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Trains, judges and prints the Markdown table."""
    print(table(run(_study(arguments))))
    return 0


def run(study: Study) -> dict[str, list[Robustness]]:
    """Returns each method's figures, one a seed; what lies in the study's folder already is not done again.

    Raises:
        ConfigError: the folder belongs to another study.
        MedtlError: as `medtl_core.cli.simulate.simulate`.
    """
    one_thread()
    _claim(study)
    trained = [_trained(study, number) for number in range(study.seeds)]
    cases, material = _cases(study)
    judged: dict[Cell, Judged] = {}
    for cell in cells(material.modality, study.severities):
        path = study.out / "cells" / f"{cell[0]}-{cell[1]}.json"
        if not path.is_file():
            write_json(path, _judged(cases, corrupted(material, cell, seed=0), trained, study.workers))
        judged[cell] = json.loads(path.read_text(encoding="utf-8"))
    names = list(trained[0])
    by_seed = {
        name: [{cell: found[name][number] for cell, found in judged.items()} for number in range(study.seeds)]
        for name in names
    }
    figures = {
        name: [robustness(*pair) for pair in zip(by_seed[name], by_seed[names[0]], strict=True)] for name in names
    }
    write_json(study.out / "robustness.json", {name: [vars(one) for one in found] for name, found in figures.items()})
    return figures


def table(figures: Mapping[str, Sequence[Robustness]]) -> str:
    """Returns the figures as a Markdown table: means over seeds with half-widths of 95% t-intervals."""
    rows: list[tuple[str, ...]] = [("method", "clean", "corrupted", "relative drop", "BE", "rBE"), ("-",) * 6]
    for name, found in figures.items():
        shares = (_shown([getattr(one, key) for one in found]) for key in ("clean", "corrupted", "drop"))
        ratios = (_shown([getattr(one, key) for one in found], 1.0, 2) for key in ("be", "rbe"))
        rows.append((f"`{name}`", *shares, *ratios))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _shown(values: Sequence[float], scale: float = 100.0, digits: int = 1) -> str:
    """A ratio to an error of zero is not finite."""
    return over(values, scale=scale, digits=digits) if np.isfinite(values).all() else "-"


def _study(arguments: Sequence[str] | None) -> Study:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True, help="folder of the data, or a built-in set's name")
    parser.add_argument("--methods", required=True, help="comma-separated; the first is the reference")
    parser.add_argument("--shots", type=int, default=25)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--severities", default="1,3,5")
    parser.add_argument("--cases", type=int, default=0, help="at most this many test cases; 0 = all")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="any setting")
    given = parser.parse_args(arguments)
    folder = Path(given.data)
    values: dict[str, Any] = {"data": given.data}
    if folder.exists():
        entry = recognise(folder)
        values = {"data": entry.name if entry else "", "data-path": str(folder.resolve())}
        values["partition"] = entry.partition if entry else "natural"
    values |= {"methods": given.methods, "shots": given.shots, **read_assignments(given.set)}
    severities = tuple(int(word) for word in given.severities.split(","))
    return Study(settings(values), given.seeds, severities, given.cases, given.out.absolute())


def _claim(study: Study) -> None:
    """Notes what the folder is for, so that cells of another study are never taken for this one's."""
    known = {"settings": study.chosen.public(), "seeds": study.seeds, "cases": study.cases}
    path = study.out / "study.json"
    if path.is_file() and json.loads(path.read_text(encoding="utf-8")) != known:
        raise ConfigError(f"{study.out} holds another robustness study; choose another --out")
    study.out.mkdir(parents=True, exist_ok=True)
    (study.out / "cells").mkdir(exist_ok=True)
    write_json(path, known)


def _trained(study: Study, number: int) -> dict[str, list[Classifier]]:
    """The classifiers of one seed by method: one, or one for each hospital."""
    seed = study.chosen.seed + number
    folder = study.out / f"seed-{seed}"
    if not (folder / "metrics.json").is_file():
        shutil.rmtree(folder, ignore_errors=True)  # what an interrupted training left
        simulate(Plan(study.chosen.replace(seed=seed), 1, study.workers, False, folder, ROOT, "robustness"))
    heads = folder / f"seed-{seed}" / "heads"
    found = {}
    for name in dict.fromkeys(word.strip() for word in study.chosen.methods.split(",")):
        paths = sorted(path for path in heads.glob("*.json") if path.stem.split("@")[0] == name)
        if not paths:
            raise ConfigError(f"{name} leaves no classifier to judge on corrupted images; drop it from --methods")
        found[name] = [_load(path) for path in paths]
    return found


def _load(path: Path) -> Classifier:
    return unpack(*load_packed(path)) if is_model(path) else load_head(path)


def _cases(study: Study) -> tuple[TestSet, Material]:
    """The server's test cases, at most as many as asked for."""
    cases = open_reference(study.chosen, study.workers).cases
    if cases is None or cases.material is None:
        raise DataError("robustness needs the server's own test images; leave test=server")
    if not study.cases or study.cases >= len(cases.label):
        return cases, cases.material
    rows = np.sort(stream(0, "robustness").permutation(len(cases.label))[: study.cases])
    taken = cases.material.take(rows)
    return TestSet(cases.values[rows], cases.label[rows], cases.site[rows], cases.group[rows], taken), taken


def _judged(
    cases: TestSet, material: Material, trained: Sequence[Mapping[str, Sequence[Classifier]]], workers: int
) -> Judged:
    """Balanced accuracy of every method and seed on the images of `material`; of one head a hospital, their mean."""
    spec = feature_spec(material.settings, material.views, material.columns)
    values = extract(material.examples, spec, material.settings, workers=workers).values
    found: dict[str, list[float]] = {}
    for methods in trained:
        for name, classifiers in methods.items():
            figures = [balanced_accuracy(cases.scores(one.logits(values, material))) for one in classifiers]
            found.setdefault(name, []).append(float(np.mean([figure or 0.0 for figure in figures])))
    return found


if __name__ == "__main__":
    raise SystemExit(main())
