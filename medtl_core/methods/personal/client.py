"""The hospital's half of a personal method: what is trained there, what may leave, and what stays.

All functions are pure; `keep` reads what stayed from the hospital's disk before they run, and writes it back after.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from medtl_core.errors import ConfigError
from medtl_core.evaluation.calibration import log_prior
from medtl_core.federation.tasks import Arrays, Config, SiteData
from medtl_core.methods.network import Network
from medtl_core.methods.personal.state import Identity
from medtl_core.values import ABSENT, Array, Head

#: Smallest class share that `adjusted` removes, so that a class of a handful of cases is not raised without limit.
FLOOR = 1e-2


@dataclass(frozen=True)
class Visit:
    """One message of the server to a resident.

    Attributes:
        site: the hospital's cases.
        arrays: what the server sent.
        config: flat values it sent.
        round: number of the round; after the last one, the number of the round that would follow.
        late: whether the hospital begins its personal part although the rounds have begun before.
    """

    site: SiteData
    arrays: Arrays
    config: Config
    round: int
    late: bool = False

    @property
    def counts(self) -> NDArray[np.float64]:
        """Training cases of each class at this hospital, [C]."""
        return np.bincount(self.site.label, minlength=self.site.classes).astype(np.float64)

    @property
    def seen(self) -> NDArray[np.bool_]:
        """Classes that any hospital has shown, bool [C]."""
        return np.asarray(self.arrays["seen"] > 0)

    @property
    def identity(self) -> Identity:
        """Whose state this is, as the server names it."""
        return identity_of(self.config)


@dataclass(frozen=True)
class Step:
    """What a round of training at a hospital gave.

    Attributes:
        shared: leaves the hospital; float32.
        kept: stays on its disk.
        metrics: losses that ride along.
    """

    shared: Mapping[str, Array]
    kept: Mapping[str, Array]
    metrics: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Finished:
    """A hospital's own model, and numbers about how it was chosen that may be told."""

    model: Head | Network
    metrics: Mapping[str, float] = field(default_factory=dict)


class Resident(ABC):
    """The hospital's half of a personal method: pure functions, state in and state out."""

    #: Whether a model can be finished by a hospital that took part in no round.
    lateness: ClassVar[bool] = True

    def begin(self, visit: Visit) -> Mapping[str, Array]:
        """Returns the personal arrays of a hospital that has none; a late one begins like this too."""
        return {}

    @abstractmethod
    def finish(self, visit: Visit, kept: Arrays) -> Finished:
        """Returns the hospital's own model from the last shared arrays and what it kept."""


class Trainee(Resident, ABC):
    """A resident of a method with rounds."""

    @abstractmethod
    def train(self, visit: Visit, kept: Arrays) -> Step:
        """Returns what a round of training gave."""


def identity_of(config: Config) -> Identity:
    """Returns whose state a message is about.

    Raises:
        ConfigError: the message does not say.
    """
    try:
        classes = tuple(json.loads(str(config["classes"])))
        return Identity(str(config["method"]), classes, str(config["fingerprint"]), str(config["agreement"]))
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError("the message does not say whose personal state it is about") from error


def affine_head(visit: Visit, raw: NDArray[np.float64]) -> Head:
    """Returns a head [C, d + 1] on raw features as this hospital's model; a class never shown anywhere is no answer."""
    identity = visit.identity
    weight = np.where(visit.seen[:, None], raw[:, :-1], 0.0)
    bias = np.where(visit.seen, raw[:, -1], ABSENT)
    return Head(weight, bias, identity.method, identity.classes, identity.fingerprint)


def adjusted(visit: Visit, raw: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns a head [C, d + 1] without the class prior of this hospital's training cases, if that was asked for."""
    moved = raw.copy()
    if visit.config.get("adjusted"):
        moved[:, -1] -= log_prior(visit.counts, floor=FLOOR)
    return moved
