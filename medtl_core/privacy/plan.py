"""A plan of releases as data: fixed before the first, the same for server and hospital, never read from a message.

A mechanism turns public facts into a plan; accounting reads it; the gate obeys it. None of them knows the others.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from medtl_core.values import digest


@dataclass(frozen=True)
class GaussianEvent:
    """One Gaussian release, or several alike.

    Attributes:
        noise_multiplier: standard deviation of the noise over the L2 sensitivity of what is released.
        sampling: Poisson sampling rate of the patients; 1 = all of them.
        count: how often.
    """

    noise_multiplier: float
    sampling: float = 1.0
    count: int = 1


@dataclass(frozen=True)
class Step:
    """One kind of release of a plan.

    Attributes:
        task: the hospital's private task.
        noise: array name -> noise multiplier of the released sum. Arrays of one step are one Gaussian release of their
            concatenation in units of their sensitivities.
        sensitivity: array name -> the largest L2 norm by which one patient changes it, a constant of the mechanism.
        count: rounds in which it is released.
        sampling, inner: 1; words of ledgers, from a Poisson sampling of patients and steps of local training.
    """

    task: str
    noise: Mapping[str, float]
    sensitivity: Mapping[str, float]
    count: int = 1
    sampling: float = 1.0
    inner: int = 1

    @property
    def event(self) -> GaussianEvent:
        """What it costs: multipliers add as 1 / sigma^2 = sum of 1 / sigma_i^2."""
        inverse = sum(1.0 / multiplier**2 for multiplier in self.noise.values())
        return GaussianEvent(1.0 / math.sqrt(inverse), self.sampling, self.count * self.inner)

    @property
    def one(self) -> GaussianEvent:
        """What one round of it costs."""
        return GaussianEvent(self.event.noise_multiplier, self.sampling, self.inner)


@dataclass(frozen=True)
class Terms:
    """The public facts from which a mechanism makes its plan.

    Attributes:
        epsilon, delta: the promise for every patient, over the whole plan.
        hospitals: K, how many take part.
        colluders: t, hospitals that may pool what they know with the server; their noise does not count.
        cases: public number of patients at each hospital.
        width: of the features.
        classes: number of classes.
        secure: whether the server sees only the hospitals' sum; the noise is then shared among them.
    """

    epsilon: float
    delta: float
    hospitals: int
    colluders: int
    cases: int
    width: int
    classes: int
    secure: bool

    @property
    def patients(self) -> int:
        """Public number of patients at all hospitals together."""
        return self.hospitals * self.cases

    @property
    def honest(self) -> int:
        """Hospitals whose noise counts."""
        return max(self.hospitals - self.colluders, 1)

    @property
    def dilution(self) -> float:
        """By how much the noise of the sum over all hospitals exceeds that of one release.

        Under secure sum the total noise is that of one release (times K / (K - t) in variance); without it every
        hospital adds noise of full size, and the sum of K has a standard deviation sqrt(K) times as large.
        """
        return math.sqrt(self.hospitals / self.honest) if self.secure else math.sqrt(self.hospitals)


@dataclass(frozen=True)
class Plan:
    """Everything a hospital will release about its patients for one mechanism.

    Attributes:
        mechanism: the method's name.
        terms: the public facts it was made from.
        steps: in order.

    Guarantee:
        Releasing every step as often as `count` says, with noise of at least `noise` times the sensitivity, is
        (epsilon, delta)-DP for one patient added or removed, if `accounting.epsilon(plan.events, delta)` is at most
        epsilon; `privacy.gate` checks that before the first release. Public: everything in the plan.
    """

    mechanism: str
    terms: Terms
    steps: tuple[Step, ...] = field(default=())

    @property
    def events(self) -> tuple[GaussianEvent, ...]:
        """What the whole plan costs."""
        return tuple(step.event for step in self.steps)

    def deviations(self, step: int) -> dict[str, float]:
        """Returns, by name, the standard deviation of the noise in an entry of one step's sums over all hospitals."""
        return {name: value * self.terms.dilution for name, value in self.steps[step].noise.items()}

    @property
    def digest(self) -> str:
        """SHA-256 that names the plan in ledgers and messages."""
        steps = [asdict(step) for step in self.steps]
        return digest({"mechanism": self.mechanism, "terms": asdict(self.terms), "steps": steps})
