"""The seam between methods and the network: ask all hospitals one thing, get validated replies as a stream."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from medtl_core.evaluation.result import Cost, FailedReply, RoundTrip
from medtl_core.federation.folds import total
from medtl_core.values import Array, Witness

Value = str | int | float | bool


@dataclass(frozen=True)
class ArraySpec:
    """The exact shape and dtype name an array in a reply must have."""

    shape: tuple[int, ...]
    dtype: str = "float64"


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

    def expected(self, cases: int) -> Mapping[str, ArraySpec]:
        """Returns what the reply of a hospital with so many cases must hold, exactly."""
        return self.expect if self.by_cases is None else self.by_cases(cases)


@dataclass(frozen=True)
class Reply:
    """A validated answer: arrays as expected, finite, of this run, and with the weight agreed at the start.

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

    @property
    def costs(self) -> Mapping[str, Cost]:
        """What each phase cost so far."""
        costs: dict[str, Cost] = {}
        for exchange in self.exchanges:
            costs[exchange.phase] = costs.get(exchange.phase, Cost()) + exchange.cost
        return costs
