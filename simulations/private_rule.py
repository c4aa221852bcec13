"""What the constants of `private-auto` are read from: `python -m simulations.private_rule`, the same tables every time.

Prototypes of several sizes, and `private-auto`, by its signal, on images on which nothing is judged: scikit-learn's
digits and synthetic radiographs, with even classes and with rare ones, and the latter also with other synthetic
radiographs as public images. Hospitals answer in memory, with noise that a seed draws.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial

import numpy as np

from medtl_core.config import Settings
from medtl_core.data.synthetic.phantom import phantom
from medtl_core.evaluation.scores import judge
from medtl_core.features.extract import extract, feature_spec
from medtl_core.federation.hospitals import Request
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
from simulations.memory import MemoryHospitals

EPSILONS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
SIZES = (16, 32, 64, 100, 150, 200)
METHODS = ("private-auto", *(f"private-prototypes-{size}{end}" for size in SIZES for end in ("-cosine", "")))


@dataclass(frozen=True)
class Trial:
    """One set in so many hospitals of `shots` cases each, a public number, without secure sum.

    Attributes:
        images, public: what `read` reads; those of the hospitals and the public ones.
        kept: share of its training cases that a class keeps, over that of the class before it; 1 = even classes.
    """

    images: str
    sites: int
    shots: int
    kept: float = 1.0
    public: str = "photos"

    def settings(self, seed: int, epsilon: float) -> Settings:
        """Returns a run's."""
        return Settings(
            sites=self.sites, shots=self.shots, public_cases=self.shots, partition="dirichlet", alpha=0.5, seed=seed,
            privacy="auto", epsilon=epsilon, delta=1e-5, public_images=self.public,
        )  # fmt: skip

    def terms(self, epsilon: float) -> Terms:
        """Returns what is public of it."""
        cases = read(self.images)
        return terms_of(self.settings(0, epsilon), cases.values.shape[1], len(cases.examples.task.classes))


TRIALS: Mapping[str, Trial] = {
    "digits": Trial("digits", 8, 50),
    "digits-rare": Trial("digits", 8, 25, kept=0.6),
    "phantom": Trial("phantom", 6, 50),
    "phantom-rare": Trial("phantom", 6, 40, kept=0.3),
    "phantom-own": Trial("phantom", 6, 50, public="others"),
}


class NoisyHospitals(MemoryHospitals):
    """Hospitals of a public set, which add a plan's noise from a random stream: it protects nobody."""

    def __init__(self, sites: Sequence[SiteData], plan: Plan, rng: np.random.Generator) -> None:
        super().__init__(sites, quorum=0.1)
        self._plan, self._rng = plan, rng

    def answer(self, site: SiteData, request: Request, arrays: Arrays) -> Released:
        """See MemoryHospitals."""
        sums = all_private_tasks()[request.task](site, arrays, request.config)
        step, noised = self._plan.steps[int(request.config["step"])], {}
        for name, array in sums.update.arrays.items():
            noised[name] = array + self._rng.normal(0.0, step.sensitivity[name] * step.noise[name], array.shape)
        return Released(Update(noised))


def accuracy(trial: Trial, method: str, epsilon: float, seed: int) -> float:
    """Returns a method's balanced accuracy on a set's test cases, in percent."""
    cases, private, chosen = read(trial.images), find_method(method), trial.settings(seed, epsilon)
    exact = federate(cases, thinned(cases, trial.kept), cases.examples.task.classes, chosen)
    assert isinstance(private, PrivateMethod) and isinstance(exact.hospitals, MemoryHospitals)
    rng = stream(seed, "noise", trial.images, method, str(epsilon))
    hospitals = NoisyHospitals(list(exact.hospitals.sites.values()), private.plan(trial.terms(epsilon)), rng)
    study = Study(hospitals, replace(exact.problem, public=public_map(trial.public)), chosen, (private,))
    test = cases.rows("test")
    logits = np.asarray(study.outcome(private).heads[""].logits(cases.values[test]))
    figures = judge(cases.scores(logits, test, cases.examples.task.classes)).figures
    return 100 * float(figures["balanced_accuracy"] or 0.0)


def digits() -> Examples:
    """Returns scikit-learn's digits, 32 pixels a side; every third is a test case."""
    from sklearn.datasets import load_digits

    pixels, label = load_digits(return_X_y=True)
    square = (pixels.reshape(-1, 8, 8, 1) * 15.9).astype(np.uint8).repeat(4, axis=1).repeat(4, axis=2)
    split = np.where(np.arange(len(label)) % 3 == 0, "test", "train")
    columns = {"image": square, "label": label.astype(np.int64), "split": split}
    return Examples(columns, Task("digits", tuple("0123456789")))


#: What `read` reads, by name.
SETS: Mapping[str, Callable[[], Examples]] = {
    "digits": digits, "photos": photographs,
    "phantom": partial(phantom, size=96, patients=1100), "others": partial(phantom, 1, size=96, patients=1100),
}  # fmt: skip


@cache
def read(images: str) -> Cases:
    """Returns a set with its features under the default settings, each image a patient of its own."""
    drawn, chosen = SETS[images](), Settings()
    count = len(drawn["label"])
    alone = {"patient": np.arange(count).astype(str), "site": np.full(count, images)}
    examples = Examples({**drawn.columns, **alone}, drawn.task)
    features = extract(examples, feature_spec(chosen, ()), chosen)
    return Cases(examples, features.values, features.fingerprint, features.groups, chosen)


@cache
def public_map(images: str) -> PublicMap:
    """Returns the map of public images."""
    return map_of(read(images).values)


def thinned(cases: Cases, kept: float) -> Index:
    """Returns training rows: all of the first class, the share `kept` of the second, its square of the third ..."""
    rows, label = cases.rows("train"), cases.examples["label"]
    by_class = [rows[label[rows] == number] for number in range(len(cases.examples.task.classes))]
    return np.sort(np.concatenate([own[: round(kept**number * len(own))] for number, own in enumerate(by_class)]))


def table(name: str, seeds: int = 5) -> str:
    """Returns balanced accuracy by signal, mean over the seeds, as Markdown."""
    trial, rows = TRIALS[name], []
    for method in METHODS:
        means = (np.mean([accuracy(trial, method, epsilon, seed) for seed in range(seeds)]) for epsilon in EPSILONS)
        rows.append((f"`{method}`", *(f"{mean:.1f}" for mean in means)))
    return markdown((f"{name}, signal", *(f"{signal(trial.terms(epsilon)):.0f}" for epsilon in EPSILONS)), rows)


if __name__ == "__main__":
    one_thread()
    for name in TRIALS:
        print(f"{table(name)}\n", flush=True)
