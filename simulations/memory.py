"""Hospitals in this process, without a network: every task of the real client, none of the wire."""

from collections.abc import Iterator, Sequence

from medtl_core.errors import MedtlError, RunError
from medtl_core.evaluation.result import FailedReply, RoundTrip
from medtl_core.federation.hospitals import Hospitals, Reply, Request
from medtl_core.federation.registry import answer
from medtl_core.federation.tasks import Arrays, SiteData
from medtl_core.values import Released


class MemoryHospitals(Hospitals):
    """Hospitals that answer in memory: for experiments that set up many federations in a row, for audits and tests.

    A hospital that cannot answer sits out, and the quorum decides. A subclass may answer in another way, through a gate
    for instance. `sites` are in name order, `asked` are all requests so far.
    """

    def __init__(self, sites: Sequence[SiteData], *, quorum: float = 1.0) -> None:
        self.sites = {site.name: site for site in sorted(sites, key=lambda site: site.name)}
        self.asked: list[Request] = []
        self._quorum = quorum
        self.weights = {name: len(site.label) for name, site in self.sites.items()}
        self.exchanges: list[RoundTrip] = []
        self.failures: list[FailedReply] = []

    def answer(self, site: SiteData, request: Request, arrays: Arrays) -> Released:
        """Returns what one hospital releases."""
        return answer(request.task, site, arrays, request.config)

    def ask(self, request: Request) -> Iterator[Reply]:
        """See Hospitals; a reply that is not as expected is refused as on the wire, and only arrays are billed.

        Raises:
            RunError: after the stream, when fewer than the quorum answered usably.
            MedtlError: the last hospital's own, when none did.
        """
        self.asked.append(request)
        phase = request.phase or request.task
        asked = [name for name in self.sites if request.only is None or name in request.only]
        usable, up, down, refusal = 0, 0, 0, None
        for name in asked:
            arrays = {**request.arrays, **(request.own(name) if request.own else {})}
            down += sum(array.nbytes for array in arrays.values())
            try:
                released = self.answer(self.sites[name], request, arrays)
                _check(request, released.update.arrays, self.weights[name])
            except MedtlError as error:
                self.failures.append(FailedReply(name, "error", f"{phase}: {error}"))
                refusal = error
                continue
            usable, up = usable + 1, up + sum(array.nbytes for array in released.update.arrays.values())
            yield Reply(name, released.update.arrays, released.metrics, self.weights[name])
        number = int(request.config.get("round", 1))
        self.exchanges.append(RoundTrip(phase, number, 0.0, up, down, replies=usable, failures=len(asked) - usable))
        if refusal is not None and not usable:
            raise refusal
        if usable < self._quorum * len(asked):
            raise RunError(f"{phase}: {usable} of {len(asked)} hospitals answered, below the quorum") from refusal


def _check(request: Request, arrays: Arrays, cases: int) -> None:
    """Raises RunError for a reply that is not what the request expects."""
    for name, spec in request.expected(cases).items():
        array = arrays.get(name)
        if array is None or (array.shape, array.dtype.name) != (spec.shape, spec.dtype):
            shown = "nothing" if array is None else f"{array.dtype.name} {array.shape}"
            raise RunError(f"{request.task}: {name!r} is {shown}, expected {spec.dtype} {spec.shape}")
