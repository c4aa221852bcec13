"""A sum of which the server sees nothing but the total: four stages over the ordinary exchange.

keys -> shares -> masked -> unmask. A hospital that drops out before it sent its masked sum is left out exactly and not
asked again; fewer survivors than K - t, and the sum is given up, since the shared noise would be too little (SAFETY,
METHODS 2.4).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from medtl_core.errors import RunError
from medtl_core.federation.hospitals import ArraySpec, Hospitals, Request
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


def secure_sum(hospitals: Hospitals, request: Request, plan: Plan) -> dict[str, Array]:
    """Returns the noised sums of one step over the hospitals that stayed, float64; nothing else is learnt.

    Args:
        hospitals: who are asked.
        request: as without secure sum; its task is done inside the third stage.
        plan: whose step it is.

    Raises:
        RunError: fewer than K - t hospitals were left at some stage, or the masks did not come off.
    """
    step = int(request.config["step"])
    config = {**request.config, "inner": request.task}
    roster = _keys(hospitals, replace(request, config=config), plan)
    config = {**config, "roster": "/".join(roster.names), "threshold": roster.threshold}
    sealed = _shares(hospitals, replace(request, config=config), roster, plan)
    total, survivors = _masked(hospitals, replace(request, config=config), roster, sealed, plan)
    clear = _unmasked(hospitals, replace(request, config=config), roster, (total, survivors, sealed), plan)
    if (clear >= 2 * RANGE).any() or (clear <= -2 * RANGE).any():  # what is left of a mask is uniform modulo 2^64
        raise RunError(f"{request.task}: the masks did not come off, a hospital sent wrong shares; the sum is given up")
    shapes = {name: request.expect[name].shape for name in sorted(request.expect)}
    return unscaled(parted(clear, shapes), plan.steps[step])


def parted(flat: Ints, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Array]:
    """Returns named arrays of a vector in which they lie one behind the other, in name order."""
    names = sorted(shapes)
    stops = np.cumsum([int(np.prod(shapes[name])) for name in names])[:-1]
    return {name: part.reshape(shapes[name]) for name, part in zip(names, np.split(flat, stops), strict=True)}


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


def _keys(hospitals: Hospitals, request: Request, plan: Plan) -> Roster:
    shares = threshold(plan)
    expect = {"public": ArraySpec((2, 4), "int64"), "identity": ArraySpec((4,), "int64")}
    expect["signature"] = ArraySpec((8,), "int64")
    sent = Request(STAGES[0], {}, request.config, expect, f"{request.phase}:keys", ledger=request.ledger)
    found = {reply.site: reply.arrays for reply in hospitals.ask(sent)}
    _enough(found, plan, "sent keys")
    names = tuple(sorted(found))
    stacked = {key: np.stack([found[name][key] for name in names]) for key in expect}
    return Roster(names, stacked["public"], stacked["identity"], stacked["signature"], shares)


def _shares(hospitals: Hospitals, request: Request, roster: Roster, plan: Plan) -> dict[str, Ints]:
    """Each hospital's parcels for all others, [n, PARCEL / 8]; the server cannot open them."""
    expect = {"parcels": ArraySpec((len(roster.names), masking.PARCEL // _WORD), "int64")}
    sent = Request(STAGES[1], roster.arrays, request.config, expect, f"{request.phase}:shares", only=roster.names)
    found = {reply.site: reply.arrays["parcels"] for reply in hospitals.ask(sent)}
    _enough(found, plan, "sent shares")
    return found


def _masked(
    hospitals: Hospitals, request: Request, roster: Roster, sealed: Mapping[str, Ints], plan: Plan
) -> tuple[Ints, tuple[str, ...]]:
    """The running sum of masked vectors modulo 2^64, and who is in it."""
    size = sum(int(np.prod(spec.shape)) for spec in request.expect.values())
    expect = {"masked": ArraySpec((size,), "int64")}
    present = np.array([name in sealed for name in roster.names], np.int64)
    arrays = {**request.arrays, **roster.arrays, "present": present}
    own = _parcels_for(roster, sealed)
    phase = f"{request.phase}:masked"
    sent = Request(STAGES[2], arrays, request.config, expect, phase, own, ledger=request.ledger, only=tuple(sealed))
    total, survivors = np.zeros(size, np.uint64), []
    for reply in hospitals.ask(sent):
        total = total + reply.arrays["masked"].view(np.uint64)
        survivors.append(reply.site)
    _enough(survivors, plan, "sent masked sums")
    return total.view(np.int64), tuple(survivors)


def _parcels_for(roster: Roster, sealed: Mapping[str, Ints]) -> Callable[[str], dict[str, Array]]:
    def own(site: str) -> dict[str, Array]:
        rows = np.zeros((len(roster.names), masking.PARCEL // _WORD), np.int64)
        if site in roster.names:
            me = roster.names.index(site)
            for place, name in enumerate(roster.names):
                if name in sealed:
                    rows[place] = sealed[name][me]
        return {"parcels": rows}

    return own


def _unmasked(
    hospitals: Hospitals, request: Request, roster: Roster, so_far: tuple[Ints, tuple[str, ...], Mapping[str, Ints]],
    plan: Plan,
) -> Ints:  # fmt: skip
    total, survivors, sealed = so_far
    count = len(roster.names)
    present = np.array([name in sealed for name in roster.names], np.int64)
    stayed = np.array([name in survivors for name in roster.names], np.int64)
    expect = {"shares": ArraySpec((count, masking.SECRET // _WORD), "int64")}
    arrays = {**roster.arrays, "present": present, "survivors": stayed}
    sent = Request(STAGES[3], arrays, request.config, expect, f"{request.phase}:unmask", only=survivors)
    held: dict[int, dict[int, bytes]] = {place: {} for place in range(count)}
    for reply in hospitals.ask(sent):
        holder = roster.names.index(reply.site)
        for place in np.flatnonzero(present):
            held[int(place)][holder] = masking.to_bytes(reply.arrays["shares"][place])
    if any(len(held[int(place)]) < roster.threshold for place in np.flatnonzero(present)):
        raise RunError(f"{request.task}: too few hospitals helped to take the masks off; the sum is given up")
    few = {place: dict(list(shares.items())[: roster.threshold]) for place, shares in held.items()}
    own = [masking.joined(few[place]) for place in range(count) if stayed[place]]
    left = {
        gone: _pairwise(roster, gone, masking.joined(few[gone]), stayed, str(request.config["plan"]))
        for gone in range(count)
        if present[gone] and not stayed[gone]
    }
    return masking.unmasked(total, own, left)


def _pairwise(roster: Roster, gone: int, secret: bytes, stayed: Ints, purpose: str) -> dict[int, bytes]:
    """The pairwise keys of a drop-out with every survivor, whose masks are still in the total."""
    keys = [masking.to_bytes(roster.keys[place, 1]) for place in range(len(roster.names))]
    return {
        place: masking.agreed_key(secret, keys[place], f"mask/{purpose}")
        for place in range(len(roster.names))
        if stayed[place]
    }


def _enough(names: Mapping[str, object] | list[str], plan: Plan, what: str) -> None:
    needed = plan.terms.honest
    if len(names) < needed:
        raise RunError(
            f"secure sum: {len(names)} of {plan.terms.hospitals} hospitals {what}, {needed} are needed for the noise "
            "that was promised; the sum is given up and nothing was learnt"
        )
