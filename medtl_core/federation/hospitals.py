"""The seam between methods and the network: ask all hospitals one thing, get validated replies as a stream."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from medtl_core.evaluation.result import Cost, FailedReply, RoundTrip
from medtl_core.federation.folds import total
from medtl_core.values import Array, Witness

Value = str | int | float | bool
#: Says of a reply's arrays, and the number of cases its hospital registered, why they cannot be true; "" = they can.
Check = Callable[[Mapping[str, Array], int], str]


#: No number of a reply is larger: sums of it, and their squares and cubes, stay far from what float64 can hold.
LARGEST = 1e30


@dataclass(frozen=True)
class ArraySpec:
    """What an array in a reply must be: its exact shape and dtype name, and what its numbers can be.

    Attributes:
        least, most: between which its numbers lie, both included.
        step: of which they are whole multiples; 0 = any. With `int64` nothing but the shape is asked.
    """

    shape: tuple[int, ...]
    dtype: str = "float64"
    least: float = -LARGEST
    most: float = LARGEST
    step: float = 0.0

    def fault(self, array: Array) -> str:
        """Returns what is wrong with the numbers of an array: "", "not-finite", "range" or "step"."""
        if self.dtype == "int64":
            return ""
        low, high = np.minimum.reduce(array, None, initial=0.0), np.maximum.reduce(array, None, initial=0.0)
        if not (self.least <= low and high <= self.most):  # nor NaN, which both reductions hand on
            return "range" if np.isfinite(array).all() else "not-finite"
        return "step" if self.step and not np.array_equal(np.rint(array / self.step) * self.step, array) else ""


@dataclass(frozen=True)
class Request:
    """One question to every hospital.

    Attributes:
        task: which client handler answers ("statistics", "fit", ...).
        arrays, config: sent to every hospital alike.
        expect: what each reply must hold, exactly.
        phase: label under which the cost is booked; "" = the task's name.
        own: gives further arrays for one hospital by name (SCAFFOLD's control variates), or None.
        ledger: the private method whose ledger is opened at the hospitals; "" = none. What a hospital last showed of
            it is sent along, and its answer must show where it stands.
        only: names of the hospitals that are asked; None = all.
        by_cases: gives what a reply must hold from the hospital's number of cases, in place of `expect`; None = all
            replies are alike.
        check: refuses replies that cannot be true, or None.
    """

    task: str
    arrays: Mapping[str, Array] = field(default_factory=dict)
    config: Mapping[str, Value] = field(default_factory=dict)
    expect: Mapping[str, ArraySpec] = field(default_factory=dict)
    phase: str = ""
    own: Callable[[str], Mapping[str, Array]] | None = None
    ledger: str = ""
    only: Collection[str] | None = None
    by_cases: Callable[[int], Mapping[str, ArraySpec]] | None = None
    check: Check | None = None

    def expected(self, cases: int) -> Mapping[str, ArraySpec]:
        """Returns what the reply of a hospital with so many cases must hold, exactly."""
        return self.expect if self.by_cases is None else self.by_cases(cases)


@dataclass(frozen=True)
class Reply:
    """A validated answer: arrays as expected, within their range, of this run, and with the weight agreed at the start.

    `witness` is where the hospital's ledger stands; None unless the request names one.
    """

    site: str
    arrays: Mapping[str, Array]
    metrics: Mapping[str, float]
    weight: int
    witness: Witness | None = None


class Hospitals(ABC):
    """All hospitals of one run, asked together."""

    #: Training cases of each hospital by name, in name order, fixed when it joined; the only weight ever used.
    weights: Mapping[str, int]
    #: Every exchange so far.
    exchanges: Sequence[RoundTrip]
    #: Every failure so far.
    failures: Sequence[FailedReply]

    @abstractmethod
    def ask(self, request: Request) -> Iterator[Reply]:
        """Yields the usable replies in order of hospital name, as they become available.

        Raises:
            RunError: after the stream, when fewer than the quorum answered usably.
        """

    def total(self, request: Request) -> dict[str, Array]:
        """Returns what the hospitals answer, summed in float64."""
        return total(reply.arrays for reply in self.ask(request))

    def blame(self, phase: str, failure: FailedReply) -> None:
        """Books a failure that shows only when answers are laid side by side."""
        self.failures = (*self.failures, failure)

    @property
    def costs(self) -> Mapping[str, Cost]:
        """What each phase cost so far."""
        costs: dict[str, Cost] = {}
        for exchange in self.exchanges:
            costs[exchange.phase] = costs.get(exchange.phase, Cost()) + exchange.cost
        return costs
