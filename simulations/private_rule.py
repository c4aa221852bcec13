"""What the constants of `private-auto` are read from: `python -m simulations.private_rule`, the same tables every time.

Prototypes of several sizes, and `private-auto`, by its signal, on images on which nothing is judged: scikit-learn's
digits and synthetic radiographs, with even classes and with rare ones, and the latter also with other synthetic
radiographs as public images. Hospitals answer in memory, with noise that a seed draws.
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from medtl_core.config import Settings
from medtl_core.data.synthetic.phantom import phantom
from medtl_core.evaluation.formulas import from_answers
from medtl_core.features.extract import extract, feature_spec
from medtl_core.federation.hospitals import Request
from medtl_core.federation.memory import MemoryHospitals
from medtl_core.federation.private import PrivateMethod, terms_of
from medtl_core.federation.registry import all_private_tasks, find_method
from medtl_core.federation.study import Study
from medtl_core.federation.tasks import Arrays, SiteData
from medtl_core.methods.private.auto import signal
from medtl_core.methods.private.public_pca import map_of, photographs
from medtl_core.privacy.patients import PublicMap
from medtl_core.privacy.plan import Plan, Terms
from medtl_core.rng import stream
from medtl_core.runtime import one_thread
from medtl_core.values import Examples, Released, Task, Update
from simulations.federation import Cases, Index, federate
from simulations.intervals import markdown

EPSILONS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
SIZES = (16, 32, 64, 100, 150, 200)
METHODS = ("private-auto", *(f"private-prototypes-{size}{end}" for size in SIZES for end in ("-cosine", "")))


@dataclass(frozen=True)
class Trial:
    """One set, in hospitals that have `shots` cases each, a public number.

    Attributes:
        images: "digits" or "phantom".
        sites, shots, classes: numbers of them.
        kept: share of its training cases that a class keeps, over that of the class before it; 1 = even classes.
        public: where the public images come from.
    """

    images: str
    sites: int
    shots: int
    classes: int
    kept: float = 1.0
    public: str = "photos"

    def settings(self, seed: int, epsilon: float) -> Settings:
        """Returns those of a run without secure sum."""
        return Settings(
            sites=self.sites, shots=self.shots, public_cases=self.shots, partition="dirichlet", alpha=0.5, seed=seed,
            privacy="auto", epsilon=epsilon, delta=1e-5, public_images=self.public,
        )  # fmt: skip

    def terms(self, epsilon: float) -> Terms:
        """Returns what is public of it."""
        return terms_of(self.settings(0, epsilon), read(self.images).values.shape[1], self.classes)


TRIALS: Mapping[str, Trial] = {
    "digits": Trial("digits", 8, 50, 10),
    "digits-rare": Trial("digits", 8, 25, 10, kept=0.6),
    "phantom": Trial("phantom", 6, 50, 3),
    "phantom-rare": Trial("phantom", 6, 40, 3, kept=0.3),
    "phantom-own": Trial("phantom", 6, 50, 3, public="others"),
}


class NoisyHospitals(MemoryHospitals):
    """Hospitals of a public set, which add a plan's noise from a random stream: it protects nobody."""

    def __init__(self, sites: Sequence[SiteData], plan: Plan, rng: np.random.Generator) -> None:
        super().__init__(sites, quorum=0.1)
        self._plan, self._rng = plan, rng

    def answer(self, site: SiteData, request: Request, arrays: Arrays) -> Released:
        """See MemoryHospitals."""
        sums = all_private_tasks()[request.task](site, arrays, request.config)
        scale = self._plan.steps[int(request.config["step"])].noise
        noised = {name: array + self._rng.normal(0.0, sums.sensitivity[name] * scale[name], array.shape)
                  for name, array in sums.update.arrays.items()}  # fmt: skip
        return Released(Update(noised))


def accuracy(trial: Trial, method: str, epsilon: float, seed: int) -> float:
    """Returns a method's balanced accuracy on a set's test cases, in percent."""
    cases, private, eye = read(trial.images), find_method(method), np.eye(trial.classes)
    assert isinstance(private, PrivateMethod)
    chosen, label = trial.settings(seed, epsilon), cases.examples["label"]
    exact = federate(cases, thinned(cases, trial.kept), cases.examples.task.classes, chosen)
    assert isinstance(exact.hospitals, MemoryHospitals)
    rng = stream(seed, "noise", trial.images, method, str(epsilon))
    hospitals = NoisyHospitals(list(exact.hospitals.sites.values()), private.plan(trial.terms(epsilon)), rng)
    study = Study(hospitals, replace(exact.problem, public=public_map(trial.public)), chosen, (private,))
    test = cases.rows("test")
    answers = eye[study.outcome(private).heads[""].logits(cases.values[test]).argmax(axis=1)]
    truth = eye[label[test]]
    figures = from_answers((answers * truth).sum(axis=0), truth.sum(axis=0), answers.sum(axis=0))
    return 100 * float(figures["balanced_accuracy"])


@cache
def read(images: str) -> Cases:
    """Returns a set with its features under the default settings, each image a patient of its own."""
    if images == "digits":
        from sklearn.datasets import load_digits

        digits = load_digits()
        pixels = (digits.images * 15.9).astype(np.uint8).repeat(4, axis=1).repeat(4, axis=2)[..., None]
        label, test = digits.target, np.arange(len(pixels)) % 3 == 0
    elif images == "photos":
        pixels, label = photographs()["image"], np.zeros(400, np.int64)
        test = label > 0
    else:
        drawn = phantom(int(images == "others"), size=96, patients=1100)
        pixels, label, test = drawn["image"], drawn["label"], drawn["split"] == "test"
    names = np.array([f"{images}-{number}" for number in range(len(label))])
    columns = {"image": pixels, "label": label.astype(np.int64), "patient": names, "site": names}
    task = Task(images, tuple(f"class {number}" for number in range(int(label.max()) + 1)))
    examples = Examples({**columns, "split": np.where(test, "test", "train")}, task)
    spec = feature_spec(Settings(), ())
    features = extract(examples, spec, Settings())
    return Cases(examples, features.values, features.fingerprint, features.groups, Settings())


@cache
def public_map(images: str) -> PublicMap:
    """Returns the map of public images."""
    return map_of(read(images).values)


def thinned(cases: Cases, kept: float) -> Index:
    """Returns training rows: all of the first class, the share `kept` of the second, its square of the third ..."""
    rows, label = cases.rows("train"), cases.examples["label"]
    by_class = [rows[label[rows] == number] for number in range(len(cases.examples.task.classes))]
    return np.sort(np.concatenate([own[: round(kept**number * len(own))] for number, own in enumerate(by_class)]))


def table(name: str, seeds: int, methods: Sequence[str] = METHODS) -> str:
    """Returns balanced accuracy by signal, mean over the seeds, as Markdown."""
    trial = TRIALS[name]
    signals = (f"{signal(trial.terms(epsilon)):.0f}" for epsilon in EPSILONS)
    rows = []
    for method in methods:
        means = (np.mean([accuracy(trial, method, epsilon, seed) for seed in range(seeds)]) for epsilon in EPSILONS)
        rows.append((f"`{method}`", *(f"{mean:.1f}" for mean in means)))
    return markdown((f"{name}, signal", *signals), rows)


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--sets", default=",".join(TRIALS), help="with commas between")
    chosen = parser.parse_args(arguments)
    one_thread()
    for name in chosen.sets.split(","):
        print(f"{table(name, chosen.seeds)}\n", flush=True)


if __name__ == "__main__":
    main()
