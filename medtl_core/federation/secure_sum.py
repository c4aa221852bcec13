"""A sum of which the server sees nothing but the total: four stages over the ordinary exchange (Bonawitz et al. 2017).

keys -> shares -> masked -> unmask. A hospital that drops out before it sent its masked sum is left out exactly and not
asked again; fewer survivors than K - t, and the sum is given up, since the shared noise would be too little.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from medtl_core.errors import RunError
from medtl_core.federation.folds import parted
from medtl_core.federation.hospitals import ArraySpec, Hospitals, Reply, Request
from medtl_core.privacy import masking
from medtl_core.privacy.gate import RANGE, unscaled
from medtl_core.privacy.masking import Ints
from medtl_core.privacy.plan import Plan
from medtl_core.values import Array

#: The hospital's tasks, in order.
STAGES = ("secure_keys", "secure_shares", "secure_masked", "secure_unmask")
#: What a hospital sends in the first stage: its public keys for parcels and for masks, its identity and signature.
_KEYS = {
    "public": ArraySpec((2, 4), "int64"), "identity": ArraySpec((4,), "int64"), "signature": ArraySpec((8,), "int64"),
}  # fmt: skip
#: Words of a parcel, of a share.
_PARCEL, _SHARE = masking.PARCEL // 8, masking.SECRET // 8


def secure_sum(hospitals: Hospitals, request: Request, plan: Plan) -> dict[str, Array]:
    """Returns the noised sums of one step over the hospitals that stayed, float64; nothing else is learnt.

    Args:
        hospitals: who are asked.
        request: as without secure sum; its task is done inside the third stage.
        plan: whose step it is.

    Raises:
        RunError: fewer than K - t hospitals were left at some stage, or the masks did not come off.
    """
    exchange = _Exchange(hospitals, request, plan)
    roster = _keys(exchange)
    sealed = _shares(exchange, roster)
    total, survivors = _masked(exchange, roster, sealed)
    clear = masking.unmasked(total, *_masks(exchange, roster, roster.flags(sealed), survivors))
    if (clear >= 2 * RANGE).any() or (clear <= -2 * RANGE).any():  # what is left of a mask is uniform modulo 2^64
        raise RunError(f"{request.task}: the masks did not come off, a hospital sent wrong shares; the sum is given up")
    shapes = {name: request.expect[name].shape for name in sorted(request.expect)}
    return unscaled(parted(clear, shapes), plan.steps[int(request.config["step"])])


def withstands(hospitals: int, colluders: int) -> bool:
    """Returns whether so many hospitals can sum securely: at least three, and more honest ones than colluders.

    Example:
        >>> withstands(3, 1), withstands(4, 2), withstands(2, 0)
        (True, False, False)
    """
    honest = hospitals - colluders
    return hospitals >= 3 and honest > colluders and honest >= 2


@dataclass(frozen=True)
class _Roster:
    """Who takes part in one sum, in name order; a hospital's place is its position. Keys are of `_KEYS`, stacked."""

    names: tuple[str, ...]
    keys: Mapping[str, Ints]

    @property
    def arrays(self) -> dict[str, Array]:
        """As they are sent to everybody."""
        words = {"roster-keys": "public", "roster-identity": "identity", "roster-signature": "signature"}
        return {word: self.keys[name] for word, name in words.items()}

    def flags(self, names: Collection[str]) -> Ints:
        """Returns which of the hospitals are among some, int64 [n]."""
        return np.array([name in names for name in self.names], np.int64)


@dataclass(frozen=True)
class _Exchange:
    """Who is asked for which sum."""

    hospitals: Hospitals
    request: Request
    plan: Plan

    def ask(
        self, stage: int, roster: _Roster | None, arrays: Mapping[str, Array], expect: Mapping[str, ArraySpec],
        **more: Any,
    ) -> Iterator[Reply]:  # fmt: skip
        """Yields the replies of one stage as they come; `more` are fields of `Request`."""
        phase = f"{self.request.phase}:{STAGES[stage].removeprefix('secure_')}"
        config = {**self.request.config, "inner": self.request.task}
        if roster is not None:
            arrays = {**roster.arrays, **arrays}
            config |= {"roster": "/".join(roster.names), "threshold": self.plan.terms.honest}
        return self.hospitals.ask(Request(STAGES[stage], arrays, config, expect, phase, **more))

    def check(self, names: Collection[str], what: str) -> None:
        """Refuses to go on with too few hospitals."""
        terms = self.plan.terms
        if len(names) < terms.honest:
            raise RunError(
                f"secure sum: {len(names)} of {terms.hospitals} hospitals {what}, {terms.honest} are needed for the "
                "noise that was promised; the sum is given up and nothing was learnt"
            )


def _keys(exchange: _Exchange) -> _Roster:
    terms = exchange.plan.terms
    if not withstands(terms.hospitals, terms.colluders):
        raise RunError(
            f"a secure sum of {terms.hospitals} hospitals cannot withstand {terms.colluders} colluders: it needs at "
            "least three hospitals and more than twice as many hospitals as colluders"
        )
    replies = exchange.ask(0, None, {}, _KEYS, ledger=exchange.request.ledger)
    keys = {reply.site: reply.arrays for reply in replies}
    exchange.check(keys, "sent keys")
    names = tuple(sorted(keys))
    return _Roster(names, {key: np.stack([keys[name][key] for name in names]) for key in _KEYS})


def _shares(exchange: _Exchange, roster: _Roster) -> dict[str, Ints]:
    """Each hospital's parcels for all others, [n, PARCEL / 8]; the server cannot open them."""
    expect = {"parcels": ArraySpec((len(roster.names), _PARCEL), "int64")}
    replies = exchange.ask(1, roster, {}, expect, only=roster.names)
    parcels = {reply.site: reply.arrays["parcels"] for reply in replies}
    exchange.check(parcels, "sent shares")
    return parcels


def _masked(exchange: _Exchange, roster: _Roster, sealed: Mapping[str, Ints]) -> tuple[Ints, Ints]:
    """The running sum of masked vectors modulo 2^64, and the flags of who is in it."""

    def parcels_for(site: str) -> dict[str, Array]:
        nothing, me = np.zeros((len(roster.names), _PARCEL), np.int64), roster.names.index(site)
        return {"parcels": np.stack([sealed.get(name, nothing)[me] for name in roster.names])}

    request = exchange.request
    size = sum(int(np.prod(spec.shape)) for spec in request.expect.values())
    arrays, expect = {**request.arrays, "present": roster.flags(sealed)}, {"masked": ArraySpec((size,), "int64")}
    total, survivors = np.zeros(size, np.uint64), []
    more = {"own": parcels_for, "ledger": request.ledger, "only": tuple(sealed)}
    for reply in exchange.ask(2, roster, arrays, expect, **more):
        total = total + reply.arrays["masked"].view(np.uint64)
        survivors.append(reply.site)
    exchange.check(survivors, "sent masked sums")
    return total.view(np.int64), roster.flags(survivors)


def _masks(
    exchange: _Exchange, roster: _Roster, present: Ints, stayed: Ints
) -> tuple[list[bytes], dict[int, dict[int, bytes]]]:
    """What survivors tell: shares of the survivors' own masks, and of the drop-outs' keys of pairwise ones."""
    threshold, purpose = exchange.plan.terms.honest, f"mask/{exchange.plan.digest}"
    expect = {"shares": ArraySpec((len(roster.names), _SHARE), "int64")}
    survivors = tuple(name for name, flag in zip(roster.names, stayed, strict=True) if flag)
    held: dict[int, dict[int, bytes]] = {int(place): {} for place in np.flatnonzero(present)}
    for reply in exchange.ask(3, roster, {"present": present, "survivors": stayed}, expect, only=survivors):
        for place, shares in held.items():
            if len(shares) < threshold:
                shares[roster.names.index(reply.site)] = masking.to_bytes(reply.arrays["shares"][place])
    if any(len(shares) < threshold for shares in held.values()):
        task = exchange.request.task
        raise RunError(f"{task}: too few hospitals helped to take the masks off; the sum is given up")
    secrets = {place: masking.joined(shares) for place, shares in held.items()}
    partners = {int(place): masking.to_bytes(roster.keys["public"][place, 1]) for place in np.flatnonzero(stayed)}
    left = {
        gone: {place: masking.agreed_key(secrets[gone], public, purpose) for place, public in partners.items()}
        for gone in secrets
        if not stayed[gone]
    }
    return [secret for place, secret in secrets.items() if stayed[place]], left
