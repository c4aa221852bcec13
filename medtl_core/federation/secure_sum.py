"""A sum of which the server sees nothing but the total: four stages over the ordinary exchange (Bonawitz et al. 2017).

keys -> shares -> masked -> unmask. A hospital that drops out before it sent its masked sum is left out exactly and not
asked again; fewer survivors than K - t, and the sum is given up, since the shared noise would be too little.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medtl_core.errors import RunError
from medtl_core.federation.hospitals import ArraySpec, Hospitals, Reply, Request, Value
from medtl_core.privacy import masking
from medtl_core.privacy.gate import RANGE, unscaled
from medtl_core.privacy.masking import Ints
from medtl_core.privacy.plan import Plan
from medtl_core.values import Array

#: The hospital's tasks, in order.
STAGES = ("secure_keys", "secure_shares", "secure_masked", "secure_unmask")

_WORD = 8


@dataclass(frozen=True)
class Roster:
    """Who takes part in one sum.

    Attributes:
        names: of the hospitals that sent keys, in name order; a hospital's place is its position.
        keys: int64 [n, 2, 4], public keys for parcels and for masks.
        identity: int64 [n, 4].
        signature: int64 [n, 8].
        threshold: shares that give a secret back.
    """

    names: tuple[str, ...]
    keys: Ints
    identity: Ints
    signature: Ints
    threshold: int

    @property
    def arrays(self) -> dict[str, Array]:
        """As they are sent to everybody."""
        return {"roster-keys": self.keys, "roster-identity": self.identity, "roster-signature": self.signature}

    def flags(self, names: Collection[str]) -> Ints:
        """Returns which of the hospitals are among some, int64 [n]."""
        return np.array([name in names for name in self.names], np.int64)


def secure_sum(hospitals: Hospitals, request: Request, plan: Plan) -> dict[str, Array]:
    """Returns the noised sums of one step over the hospitals that stayed, float64; nothing else is learnt.

    Args:
        hospitals: who are asked.
        request: as without secure sum; its task is done inside the third stage.
        plan: whose step it is.

    Raises:
        RunError: fewer than K - t hospitals were left at some stage, or the masks did not come off.
    """
    exchange = _Exchange(hospitals, request, plan, {"inner": request.task})
    roster = _keys(exchange)
    agreed: dict[str, Value] = {"roster": "/".join(roster.names), "threshold": roster.threshold}
    exchange = replace(exchange, facts={**exchange.facts, **agreed})
    sealed = _shares(exchange, roster)
    total, survivors = _masked(exchange, roster, sealed)
    clear = _unmasked(exchange, roster, (total, survivors, sealed))
    if (clear >= 2 * RANGE).any() or (clear <= -2 * RANGE).any():  # what is left of a mask is uniform modulo 2^64
        raise RunError(f"{request.task}: the masks did not come off, a hospital sent wrong shares; the sum is given up")
    shapes = {name: request.expect[name].shape for name in sorted(request.expect)}
    return unscaled(parted(clear, shapes), plan.steps[int(request.config["step"])])


def parted(vector: NDArray[Any], shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Array]:
    """Returns named arrays of a vector in which they lie one behind the other, in the order of `shapes`.

    Example:
        >>> parted(np.arange(3.0), {"weight": (1, 2), "bias": (1,)})
        {'weight': array([[0., 1.]]), 'bias': array([2.])}
    """
    stops = np.cumsum([int(np.prod(shape)) for shape in shapes.values()])[:-1]
    parts = zip(shapes.items(), np.split(vector, stops), strict=True)
    return {name: part.reshape(shape) for (name, shape), part in parts}


def threshold(plan: Plan) -> int:
    """Returns how many shares give a secret back: K - t, more than the colluders hold.

    Raises:
        RunError: there are too few hospitals for the number of colluders.
    """
    if not withstands(plan.terms.hospitals, plan.terms.colluders):
        raise RunError(
            f"a secure sum of {plan.terms.hospitals} hospitals cannot withstand {plan.terms.colluders} colluders: it "
            "needs at least three hospitals and more than twice as many hospitals as colluders"
        )
    return plan.terms.honest


def withstands(hospitals: int, colluders: int) -> bool:
    """Returns whether so many hospitals can sum securely: at least three, and more honest ones than colluders.

    Example:
        >>> withstands(3, 1), withstands(4, 2), withstands(2, 0)
        (True, False, False)
    """
    honest = hospitals - colluders
    return hospitals >= 3 and honest > colluders and honest >= 2


@dataclass(frozen=True)
class _Exchange:
    """Who is asked for which sum, and the facts that go along with every question."""

    hospitals: Hospitals
    request: Request
    plan: Plan
    facts: Mapping[str, Value]

    def ask(
        self, stage: int, arrays: Mapping[str, Array], expect: Mapping[str, ArraySpec], **more: Any
    ) -> Iterator[Reply]:
        """Yields the replies of one stage as they come; `more` are fields of `Request`."""
        phase = f"{self.request.phase}:{STAGES[stage].removeprefix('secure_')}"
        config = {**self.request.config, **self.facts}
        return self.hospitals.ask(Request(STAGES[stage], arrays, config, expect, phase, **more))

    def check(self, names: Collection[str], what: str) -> None:
        """Refuses to go on with too few hospitals."""
        terms = self.plan.terms
        if len(names) < terms.honest:
            raise RunError(
                f"secure sum: {len(names)} of {terms.hospitals} hospitals {what}, {terms.honest} are needed for the "
                "noise that was promised; the sum is given up and nothing was learnt"
            )


def _keys(exchange: _Exchange) -> Roster:
    shares = threshold(exchange.plan)
    expect = {"public": ArraySpec((2, 4), "int64"), "identity": ArraySpec((4,), "int64")}
    expect["signature"] = ArraySpec((8,), "int64")
    replies = exchange.ask(0, {}, expect, ledger=exchange.request.ledger)
    keys = {reply.site: reply.arrays for reply in replies}
    exchange.check(keys, "sent keys")
    names = tuple(sorted(keys))
    stacked = {key: np.stack([keys[name][key] for name in names]) for key in expect}
    return Roster(names, stacked["public"], stacked["identity"], stacked["signature"], shares)


def _shares(exchange: _Exchange, roster: Roster) -> dict[str, Ints]:
    """Each hospital's parcels for all others, [n, PARCEL / 8]; the server cannot open them."""
    expect = {"parcels": ArraySpec((len(roster.names), masking.PARCEL // _WORD), "int64")}
    replies = exchange.ask(1, roster.arrays, expect, only=roster.names)
    parcels = {reply.site: reply.arrays["parcels"] for reply in replies}
    exchange.check(parcels, "sent shares")
    return parcels


def _masked(exchange: _Exchange, roster: Roster, sealed: Mapping[str, Ints]) -> tuple[Ints, tuple[str, ...]]:
    """The running sum of masked vectors modulo 2^64, and who is in it."""
    request = exchange.request
    size = sum(int(np.prod(spec.shape)) for spec in request.expect.values())
    arrays = {**request.arrays, **roster.arrays, "present": roster.flags(sealed)}
    total, survivors = np.zeros(size, np.uint64), []
    for reply in exchange.ask(
        2, arrays, {"masked": ArraySpec((size,), "int64")}, own=lambda site: _parcels_for(roster, sealed, site),
        ledger=request.ledger, only=tuple(sealed),
    ):  # fmt: skip
        total = total + reply.arrays["masked"].view(np.uint64)
        survivors.append(reply.site)
    exchange.check(survivors, "sent masked sums")
    return total.view(np.int64), tuple(survivors)


def _parcels_for(roster: Roster, sealed: Mapping[str, Ints], site: str) -> dict[str, Array]:
    rows = np.zeros((len(roster.names), masking.PARCEL // _WORD), np.int64)
    if site in roster.names:
        me = roster.names.index(site)
        for place, name in enumerate(roster.names):
            if name in sealed:
                rows[place] = sealed[name][me]
    return {"parcels": rows}


def _unmasked(exchange: _Exchange, roster: Roster, so_far: tuple[Ints, tuple[str, ...], Mapping[str, Ints]]) -> Ints:
    """The sum itself: survivors tell shares of the survivors' own masks, and of the drop-outs' pairwise keys."""
    total, survivors, sealed = so_far
    count = len(roster.names)
    present, stayed = roster.flags(sealed), roster.flags(survivors)
    expect = {"shares": ArraySpec((count, masking.SECRET // _WORD), "int64")}
    arrays = {**roster.arrays, "present": present, "survivors": stayed}
    held: dict[int, dict[int, bytes]] = {place: {} for place in range(count)}
    for reply in exchange.ask(3, arrays, expect, only=survivors):
        holder = roster.names.index(reply.site)
        for place in np.flatnonzero(present):
            held[int(place)][holder] = masking.to_bytes(reply.arrays["shares"][place])
    if any(len(held[int(place)]) < roster.threshold for place in np.flatnonzero(present)):
        task = exchange.request.task
        raise RunError(f"{task}: too few hospitals helped to take the masks off; the sum is given up")
    few = {place: dict(list(shares.items())[: roster.threshold]) for place, shares in held.items()}
    masks = [masking.joined(few[place]) for place in range(count) if stayed[place]]
    purpose = str(exchange.request.config["plan"])
    left = {
        gone: _pairwise(roster, masking.joined(few[gone]), stayed, purpose)
        for gone in range(count)
        if present[gone] and not stayed[gone]
    }
    return masking.unmasked(total, masks, left)


def _pairwise(roster: Roster, secret: bytes, stayed: Ints, purpose: str) -> dict[int, bytes]:
    """The pairwise keys of a drop-out with every survivor, whose masks are still in the total."""
    return {
        int(place): masking.agreed_key(secret, masking.to_bytes(roster.keys[place, 1]), f"mask/{purpose}")
        for place in np.flatnonzero(stayed)
    }
