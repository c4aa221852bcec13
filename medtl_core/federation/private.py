"""Private methods: a plan made from public facts, and sums that only leave a hospital with noise."""

import math
from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import ClassVar

import numpy as np

from medtl_core.config import Settings
from medtl_core.errors import PrivacyError
from medtl_core.federation.folds import total
from medtl_core.federation.hospitals import ArraySpec, Request, Value
from medtl_core.federation.method import Method
from medtl_core.federation.outcome import Share
from medtl_core.federation.secure_sum import STAGES, secure_sum
from medtl_core.federation.study import Study
from medtl_core.federation.tasks import Arrays, Config, SiteData
from medtl_core.fingerprint import agreement
from medtl_core.heads.statistics import TINY, diagonal
from medtl_core.privacy.accounting import default_delta, mu_for
from medtl_core.privacy.bounded import Bounded
from medtl_core.privacy.gate import GRID
from medtl_core.privacy.plan import Plan, Step, Terms
from medtl_core.values import Array

#: The arrays of a public map (`privacy.patients.PublicMap`), which every private request brings.
MAP: Mapping[str, str] = {"mean": "d", "scale": "d", "basis": "dk"}
#: Every number of a request lies within this, and some within less: nothing made of them leaves float64.
LARGEST = 1e6
_RANGES: Mapping[str, tuple[float, float]] = {"scale": (TINY, LARGEST), "weights": (0.0, 1.0)}
#: What every private request says: the method, where in its plan it stands, and which plan the server has in mind.
_WORDS: Mapping[str, type] = {"method": str, "step": int, "round": int, "plan": str}
#: How the words of a ledger's witness begin; see `privacy.witnesses.from_values`.
_WITNESS = "witness-"
#: More patients than a hospital has; deviations that Gaussian noise never reaches (2^-1158); sums of nothing negative.
_PATIENTS, _DEVIATIONS, _COUNTED = 2.0**20, 40.0, ("count", "counts")


@dataclass(frozen=True)
class PrivateMethod(Method):
    """A method whose every release is planned, noised and paid for.

    Guarantee:
        (epsilon, delta)-DP of everything hospitals send for this method, for one patient added or removed, with
        epsilon and delta of the terms. Public: the settings, the terms, and what `outcome` makes of the noised sums.
    """

    test: ClassVar[str] = "server"

    @abstractmethod
    def plan(self, terms: Terms) -> Plan:
        """Returns every release the method will ask for, calibrated so that all of them together keep the promise.

        Server and hospital call it alike, with public facts only; a hospital never takes a plan from a message.
        """


@dataclass(frozen=True)
class PrivateTask:
    """What a hospital can be asked for privately: clipped sums, and all that a request for them holds.

    Axes are letters: "d" features, "k" directions of the map, "c" classes, "1" one, "g" numbers of a packed Gram matrix
    of k directions, "n" numbers of all blocks and of a head [c, k].

    Attributes:
        clipped: gives the sums with their sensitivities; the gate adds the noise.
        sums: name -> axes of each sum it may give, in its order; a plan's step says which.
        arrays: name -> axes of the arrays of a request, float64.
        words: gives the values of a request beside those that every one has, by the plan's method and step.
        blocks: gives the further arrays of a request, of which only the shapes count.
    """

    clipped: Callable[[SiteData, Arrays, Config], Bounded]
    sums: Mapping[str, str]
    arrays: Mapping[str, str] = field(default_factory=lambda: MAP)
    words: Callable[[PrivateMethod, Step], Mapping[str, Value]] = lambda method, step: {}
    blocks: Callable[[SiteData, Config], Arrays] = lambda site, config: {}

    def __call__(self, site: SiteData, arrays: Arrays, config: Config) -> Bounded:
        """Returns the clipped sums; for the gate alone."""
        return self.clipped(site, arrays, config)

    def admit(
        self, site: SiteData, arrays: Arrays, config: Config, method: PrivateMethod, step: Step
    ) -> dict[str, tuple[int, ...]]:
        """Returns the shape of each sum of a plan's step, by name, if the request is what the step is asked with.

        A request without arrays, as in a secure sum's other stages, has no sums, and nothing can be released for it.

        Guarantee:
            It reads the width of the features and the number of classes, and no patient: refused or not depends on the
            message and on the run's settings.

        Raises:
            PrivacyError: a value or an array is missing, unknown, of another type, shape or range.
        """
        words = self.words(method, step)
        strange = [name for name in config if name not in {*_WORDS, *words} and not name.startswith(_WITNESS)]
        if strange:
            raise PrivacyError(f"the request says {strange[0][:60]!r}, which {step.task} does not know")
        for name, value in words.items():
            if type(config.get(name)) is not type(value) or config[name] != value:
                raise PrivacyError(f"the request does not say {name}={value!r}, as the plan of {method.name} has it")
        if not arrays:
            return {}
        basis, width = arrays.get("basis", np.zeros(0)), site.values.shape[1]
        kept = basis.shape[1] if basis.ndim == 2 else 0
        if not 1 <= kept <= width:
            raise PrivacyError(f"the request's basis must hold 1 to {width} directions")
        sizes = {"d": width, "k": kept, "c": site.classes, "1": 1, "g": kept * (kept + 1) // 2}
        shapes = {name: tuple(sizes[axis] for axis in axes) for name, axes in self.arrays.items()}
        blocks = {name: array.shape for name, array in self.blocks(site, config).items()}
        sizes["n"] = sum(map(math.prod, blocks.values())) + site.classes * kept
        _check_arrays(arrays, {**shapes, **blocks})
        return {name: tuple(sizes[axis] for axis in axes) for name, axes in self.sums.items() if name in step.noise}


def check_words(config: Config) -> None:
    """Refuses a private request that does not say, in the right type, what every one says.

    Raises:
        PrivacyError: a value is missing or of another type.
    """
    for name, kind in _WORDS.items():
        if type(config.get(name)) is not kind:
            raise PrivacyError(f"the request must say {name}, of type {kind.__name__}")


def _check_arrays(arrays: Arrays, shapes: Mapping[str, tuple[int, ...]]) -> None:
    if arrays.keys() != shapes.keys():
        raise PrivacyError(f"the request must hold the arrays {sorted(shapes)}, and no others")
    for name, shape in shapes.items():
        low, high = _RANGES.get(name, (-LARGEST, LARGEST))
        array = arrays[name]
        if array.dtype != np.float64 or array.shape != shape:
            raise PrivacyError(f"the request's {name!r} is {array.dtype} {array.shape}, not float64 {shape}")
        if not ((array >= low) & (array <= high)).all():  # also refuses NaN
            raise PrivacyError(f"the request's {name!r} must hold finite numbers from {low:g} to {high:g}")


def terms_of(settings: Settings, width: int, classes: int) -> Terms:
    """Returns the public facts of a run.

    Raises:
        PrivacyError: the public number of cases is not stated, or delta is not below 1 / cases.
    """
    cases = settings.public_cases or settings.shots
    if cases < 2:
        raise PrivacyError("privacy needs a public number of patients at every hospital: set public-cases (or shots)")
    delta = settings.delta or default_delta(cases)
    if delta >= 1.0 / cases:
        raise PrivacyError(f"delta={delta} promises little to {cases} patients; it must be below 1 / {cases}")
    return Terms(
        settings.epsilon, delta, settings.sites, settings.colluders, cases, width, classes, settings.secure_sum
    )


def plan_of(method: PrivateMethod, study: Study) -> Plan:
    """Returns the method's plan in this study."""
    problem = study.problem
    return method.plan(terms_of(study.settings, problem.width, len(problem.classes)))


def sharing(terms: Terms, task: str, shares: Mapping[str, float], *, sensitivity: float = 1.0, count: int = 1) -> Step:
    """Returns the step whose sums, over all its releases together, take some shares of the budget.

    Args:
        terms: whose epsilon and delta are the budget.
        task: gives the sums.
        shares: of mu^2, by name of the sum; those of a plan's steps add up to 1.
        sensitivity: of each sum.
        count: of rounds.

    Guarantee:
        Steps whose shares add up to 1 are mu-GDP together, with the largest mu that is (epsilon, delta)-DP: mu^2 of a
        Gaussian release is one over its squared noise multiplier, and adds (`privacy.accounting`).
    """
    mu, releases = mu_for(terms.epsilon, terms.delta), math.sqrt(count)
    noise = {name: releases / (mu * math.sqrt(share)) for name, share in shares.items()}
    return Step(task, noise, dict.fromkeys(shares, sensitivity), count)


def noised_sum(
    study: Study, method: PrivateMethod, step: int, arrays: Mapping[str, Array], shapes: Mapping[str, tuple[int, ...]],
    *, number: int = 1, config: Mapping[str, Value] | None = None,
) -> dict[str, Array]:  # fmt: skip
    """Returns the noised sums over all hospitals, float64, of one round of one step of the method's plan.

    What noise has carried beyond the numbers that hospitals read is sent as the largest of them.

    `step` is an index into its steps, `number` the round's, from 1 to the step's `count`; public arrays and values are
    sent along, `shapes` are those of the sums by name.

    Raises:
        RunError: a round missed its quorum, or too few hospitals were left for the promise to hold.
    """
    plan = plan_of(method, study)
    sent = {**(config or {}), "method": method.name, "step": step, "round": number, "plan": plan.digest}
    expect = {name: _released(plan.steps[step], name, shape) for name, shape in shapes.items()}
    read = {name: np.clip(array, -LARGEST, LARGEST) for name, array in arrays.items()}
    phase, check = _phase(method, plan, step), partial(_negative_gram, plan.steps[step])
    request = Request(plan.steps[step].task, read, sent, expect, phase, ledger=method.name, check=check)
    if study.settings.secure_sum:
        problem = study.problem
        agreed = agreement(study.settings, problem.classes, problem.fingerprint)
        return secure_sum(study.hospitals, request, plan, agreed)
    return total(reply.arrays for reply in study.hospitals.ask(request))


def _released(step: Step, name: str, shape: tuple[int, ...]) -> ArraySpec:
    """What a hospital's noised sum can be: whole units of the grid, of so many patients and so much noise at most."""
    unit, noise = step.sensitivity[name], _largest_noise(step, name)
    most = _PATIENTS * unit + noise
    return ArraySpec(shape, least=-noise if name in _COUNTED else -most, most=most, step=unit * GRID)


def _negative_gram(step: Step, sums: Mapping[str, Array], cases: int) -> str:
    """Refuses a packed Gram matrix whose diagonal, a sum of squares, is less than noise makes of nothing."""
    if "gram" not in sums:
        return ""
    squares = diagonal(sums["gram"], math.isqrt(2 * len(sums["gram"])))
    return "its Gram matrix is negative" if (squares < -_largest_noise(step, "gram")).any() else ""


def _largest_noise(step: Step, name: str) -> float:
    return _DEVIATIONS * step.noise[name] * step.sensitivity[name]


def bill_of(method: PrivateMethod, study: Study) -> dict[str, Share]:
    """Returns every phase the method's plan needs, with or without secure sum."""
    plan = plan_of(method, study)
    stages = [f":{stage.removeprefix('secure_')}" for stage in STAGES] if study.settings.secure_sum else [""]
    return {_phase(method, plan, step) + stage: Share() for step in range(len(plan.steps)) for stage in stages}


def _phase(method: PrivateMethod, plan: Plan, step: int) -> str:
    """The label under which a step is booked."""
    return f"{method.name}:{plan.steps[step].task}"
