"""Robustness to corrupted images: `python -m simulations.robustness --data DIR --methods A,B --shots 25 --out DIR`.

Classifiers are trained by the usual road, once per seed, and judged on the server's test images as they are and with
every corruption of the modality (`simulations.corruption`, after MedMNIST-C). What is trained and judged is kept in
--out and not done again, so an interrupted run goes on where it stopped.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from medtl_core.cli.plan import name_data
from medtl_core.config import Settings, read_assignments, settings
from medtl_core.data.images import content_key, decode
from medtl_core.data.readers import recognise
from medtl_core.data.views import square
from medtl_core.errors import ConfigError, DataError
from medtl_core.evaluation.scores import balanced_accuracy
from medtl_core.features.dataset import Material
from medtl_core.features.extract import extract, images_of
from medtl_core.features.spec import feature_spec
from medtl_core.federation.model import Classifier
from medtl_core.rng import stream
from medtl_core.runtime import one_thread
from medtl_core.store import write_json
from medtl_core.values import Examples
from server.testset import TestSet, open_reference
from simulations.corruption import SEVERITIES, corrupt, relevant
from simulations.experiments import Values, load_classifier, run_once
from simulations.intervals import markdown, over

#: (corruption, severity); ("clean", 0) is the images as they are.
Cell = tuple[str, int]
CLEAN: Cell = ("clean", 0)
#: Method -> balanced accuracy of each seed.
Judged = Mapping[str, Sequence[float]]


@dataclass(frozen=True)
class Trial:
    """What is asked for.

    Attributes:
        chosen: settings of the first seed.
        cases: at most this many test cases, drawn by seed 0; 0 = all.
        out: folder for trained classifiers and judged cells.
    """

    chosen: Settings
    seeds: int
    severities: tuple[int, ...]
    cases: int
    out: Path


def cells(modality: str, severities: Sequence[int]) -> tuple[Cell, ...]:
    """Returns what a classifier of a modality is judged on: clean, then every relevant corruption and severity.

    Raises:
        ConfigError: the modality has no corruptions, or a severity is not in 1 to 5 or named twice.
    """
    if not severities or len(set(severities)) < len(severities) or not set(severities) <= set(SEVERITIES):
        raise ConfigError(f"severities {list(severities)} must be different numbers among {list(SEVERITIES)}")
    return (CLEAN, *((name, severity) for name in relevant(modality) for severity in severities))


def corrupted(material: Material, cell: Cell, *, seed: int) -> Material:
    """Returns the same cases with corrupted images, at the size the backbone reads, kept out of the feature cache.

    What is drawn depends on the seed, the corruption and the image: severities of one corruption differ in the amount
    only, and no case depends on another.

    Raises:
        ConfigError: no such corruption or severity.
        DataError: an image cannot be decoded, or the cases are a table.
    """
    if cell == CLEAN:
        return material
    name, severity = cell
    images = images_of(material.examples)
    spec = feature_spec(material.settings, material.views, material.columns)
    size = max(record.size for record, _ in spec.parts(material.settings))
    made = [
        corrupt(square(decode(image), size), name, severity, rng=stream(seed, "corrupt", name, content_key(image)))
        for image in images
    ]
    columns = {key: column for key, column in material.examples.columns.items() if key != "path"}
    columns["image"] = np.stack(made) if made else np.zeros((0, size, size, 3), np.uint8)
    examples = Examples(columns, material.examples.task)
    return replace(material, examples=examples, settings=material.settings.replace(cache="off"))


def run(trial: Trial) -> dict[Cell, Judged]:
    """Returns the balanced accuracy of every cell; what lies in the trial's folder already is not done again.

    Raises:
        ConfigError: the folder belongs to another trial, or a method leaves no classifier.
        DataError: the server has no test images.
    """
    one_thread()
    path, known = trial.out / "trial.json", {"settings": trial.chosen.public(), "cases": trial.cases}
    if path.is_file() and json.loads(path.read_text(encoding="utf-8")) != known:
        raise ConfigError(f"{trial.out} holds another robustness study; choose another --out")
    trained = [_trained(trial, trial.chosen.seed + number) for number in range(trial.seeds)]
    write_json(path, known)
    cases, material = _cases(trial)
    judged: dict[Cell, Judged] = {}
    for cell in cells(material.modality, trial.severities):
        kept = trial.out / f"{cell[0]}-{cell[1]}-{trial.seeds}.json"
        if not kept.is_file():
            write_json(kept, _judged(cases, corrupted(material, cell, seed=0), trained))
        judged[cell] = json.loads(kept.read_text(encoding="utf-8"))
    return judged


def table(judged: Mapping[Cell, Judged]) -> str:
    """Returns balanced accuracy on clean and on corrupted images, and the share that is lost, in percent over seeds."""
    rows = []
    for name, clean in judged[CLEAN].items():
        harmed = np.mean([by_method[name] for cell, by_method in judged.items() if cell != CLEAN], axis=0)
        lost = [1 - after / before if before else None for before, after in zip(clean, harmed.tolist(), strict=True)]
        rows.append((f"`{name}`", over(clean), over(harmed.tolist()), over(lost)))
    return markdown(("method", "clean", "corrupted", "relative drop"), rows)


def _trained(trial: Trial, seed: int) -> dict[str, list[Classifier]]:
    """The classifiers of one seed by method: one, or one for each hospital."""
    folder = trial.out / f"seed-{seed}"
    run_once(trial.chosen.replace(seed=seed), folder, "robustness")
    found = {}
    for name in dict.fromkeys(word.strip() for word in trial.chosen.methods.split(",")):
        heads = sorted((folder / f"seed-{seed}" / "heads").glob("*.json"))
        found[name] = [load_classifier(path) for path in heads if path.stem.split("@")[0] == name]
        if not found[name]:
            raise ConfigError(f"{name} leaves no classifier to judge on corrupted images; drop it from --methods")
    return found


def _cases(trial: Trial) -> tuple[TestSet, Material]:
    """The server's test cases, at most as many as asked for."""
    cases = open_reference(trial.chosen, workers=2).cases
    if cases is None or cases.material is None:
        raise DataError("robustness needs the server's own test images; leave test=server")
    rows = np.arange(len(cases.label))
    if 0 < trial.cases < len(rows):
        rows = np.sort(stream(0, "robustness").permutation(len(rows))[: trial.cases])
    taken = cases.material.take(rows)
    return TestSet(cases.values[rows], cases.label[rows], cases.site[rows], cases.group[rows], taken), taken


def _judged(cases: TestSet, material: Material, trained: Sequence[Mapping[str, Sequence[Classifier]]]) -> Judged:
    """Balanced accuracy of every method and seed on the images of `material`; of one head a hospital, their mean."""
    spec = feature_spec(material.settings, material.views, material.columns)
    values = extract(material.examples, spec, material.settings, workers=2).values
    found: dict[str, list[float]] = {}
    for methods in trained:
        for name, classifiers in methods.items():
            figures = [balanced_accuracy(cases.scores(one.logits(values, material))) for one in classifiers]
            found.setdefault(name, []).append(float(np.mean([figure or 0.0 for figure in figures])))
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Trains, judges and prints the Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="folder of the data, or a built-in set's name")
    parser.add_argument("--methods", required=True, help="comma-separated")
    parser.add_argument("--shots", type=int, default=25)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--severities", default="1,3,5")
    parser.add_argument("--cases", type=int, default=0, help="at most this many test cases; 0 = all")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="any setting")
    given = parser.parse_args(arguments)
    entry = recognise(Path(given.data)) if Path(given.data).exists() else None
    usual: Values = {"partition": entry.partition} if entry else {}
    usual |= {**name_data(given.data), "methods": given.methods, "shots": given.shots}
    chosen = settings(usual | read_assignments(given.set))
    severities = tuple(int(word) for word in given.severities.split(","))
    print(table(run(Trial(chosen, given.seeds, severities, given.cases, given.out.absolute()))))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
