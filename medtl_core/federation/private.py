"""Private methods: a plan made from public facts, and sums that only leave a hospital with noise."""

import math
from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from medtl_core.config import Settings
from medtl_core.errors import PrivacyError
from medtl_core.federation.hospitals import Value
from medtl_core.federation.method import Method
from medtl_core.federation.tasks import Arrays, Config, SiteData
from medtl_core.heads.statistics import TINY
from medtl_core.privacy.accounting import default_delta
from medtl_core.privacy.bounded import Bounded
from medtl_core.privacy.plan import Plan, Step, Terms

#: The arrays of a public map (`privacy.patients.PublicMap`), which every private request brings.
MAP: Mapping[str, str] = {"mean": "d", "scale": "d", "basis": "dk"}
#: Every number of a request lies within this, and some within less: nothing made of them leaves float64.
LARGEST_ASKED = 1e6
_RANGES: Mapping[str, tuple[float, float]] = {"scale": (TINY, LARGEST_ASKED), "weights": (0.0, 1.0)}
#: What every private request says: the method, where in its plan it stands, and which plan the server has in mind.
_WORDS: Mapping[str, type] = {"method": str, "step": int, "round": int, "plan": str}
#: How the words of a ledger's witness begin; see `privacy.witnesses.from_values`.
_WITNESS = "witness-"


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
        low, high = _RANGES.get(name, (-LARGEST_ASKED, LARGEST_ASKED))
        array = arrays[name]
        if array.dtype != np.float64 or array.shape != shape:
            raise PrivacyError(f"the request's {name!r} is {array.dtype} {array.shape}, not float64 {shape}")
        if not ((array >= low) & (array <= high)).all():  # also refuses NaN
            raise PrivacyError(f"the request's {name!r} must hold finite numbers from {low:g} to {high:g}")


def terms_of(settings: Settings, width: int, classes: int) -> Terms:
    """Returns the public facts of a run under privacy."""
    cases = settings.public_cases or settings.shots  # two at least, as settings see to
    delta = settings.delta or default_delta(cases)  # below 1 / cases, as settings see to
    return Terms(
        settings.epsilon, delta, settings.sites, settings.colluders, cases, width, classes, settings.secure_sum
    )
