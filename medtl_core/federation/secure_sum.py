"""A sum of which the server sees nothing but the total: five stages over the ordinary exchange (Bonawitz et al. 2017).

keys -> shares -> masked -> survivors -> unmask. A hospital that drops out before it sent its masked sum is left out
exactly and not asked again; with too few survivors the sum is given up, since the shared noise would be too little.
Survivors sign who they are before a mask is taken off: a server that tells them apart gets no quorum
(`privacy.roster`). Whose signature, parcels or shares are wrong is named and left out, and the others go on if enough
are left.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, combinations, islice
from typing import Any

import numpy as np

from medtl_core.errors import PrivacyError, RunError
from medtl_core.evaluation.result import FailedReply
from medtl_core.federation.folds import parted
from medtl_core.federation.hospitals import ArraySpec, Hospitals, Reply, Request
from medtl_core.privacy import masking
from medtl_core.privacy.gate import RANGE, unscaled
from medtl_core.privacy.masking import Ints
from medtl_core.privacy.plan import Plan
from medtl_core.privacy.roster import KEYS, OWN, PAIR, Roster, Standing, check_keys, places, session_of
from medtl_core.values import Array

#: The hospital's tasks, in order.
STAGES = ("secure_keys", "secure_shares", "secure_masked", "secure_survivors", "secure_unmask")
#: Words of a parcel, of a share, of a signature.
_PARCEL, _SHARE, _SIGNATURE = masking.PARCEL // 8, masking.SECRET // 8, masking.SIGNATURE // 8
#: Sets of shares that are tried before a secret is given up; with one liar among n holders n + 1 are enough.
_TRIES = 500


def secure_sum(hospitals: Hospitals, request: Request, plan: Plan, agreement: str) -> dict[str, Array]:
    """Returns the noised sums of one step over the hospitals that stayed, float64; nothing else is learnt.

    Args:
        hospitals: who are asked.
        request: as without secure sum; its task is done inside the third stage.
        plan: whose step it is.
        agreement: of the run.

    Raises:
        RunError: too few hospitals were left at some stage, or the masks did not come off.
    """
    step, number = int(request.config["step"]), int(request.config["round"])
    exchange = _Exchange(hospitals, request, plan, session_of(agreement, plan.digest, step, number))
    roster, parcels = _shares(exchange, _keys(exchange))
    total, standing = _masked(exchange, roster, parcels)
    signatures = _signatures(exchange, roster, standing)
    clear = masking.unmasked(total, *_masks(exchange, roster, standing, signatures))
    if (clear >= 2 * RANGE).any() or (clear <= -2 * RANGE).any():  # what is left of a mask is uniform modulo 2^64
        raise RunError(f"{request.task}: the masks did not come off, a hospital sent a wrong sum; it is given up")
    shapes = {name: request.expect[name].shape for name in sorted(request.expect)}
    return unscaled(parted(clear, shapes), plan.steps[step])


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
    """Who is asked for which sum."""

    hospitals: Hospitals
    request: Request
    plan: Plan
    session: str

    def phase(self, stage: int) -> str:
        """The label under which a stage is booked."""
        return f"{self.request.phase}:{STAGES[stage].removeprefix('secure_')}"

    def ask(
        self, stage: int, roster: Roster | None, arrays: Mapping[str, Array], expect: Mapping[str, tuple[int, ...]],
        **more: Any,
    ) -> Iterator[Reply]:  # fmt: skip
        """Yields the replies of one stage as they come, int64 of expected shapes; `more` are fields of `Request`."""
        config = {**self.request.config, "inner": self.request.task}
        if roster is not None:
            arrays = {**roster.arrays, **arrays}
            config["roster"] = "/".join(roster.names)
        specs = {name: ArraySpec(shape, "int64") for name, shape in expect.items()}
        return self.hospitals.ask(Request(STAGES[stage], arrays, config, specs, self.phase(stage), **more))

    def blame(self, stage: int, site: str, code: str, text: str) -> None:
        """Names a hospital that did not keep to the protocol."""
        self.hospitals.blame(self.phase(stage), FailedReply(site, code, text))

    def quarrel(self, stage: int, reports: Mapping[str, Collection[str]], code: str, text: str) -> set[str]:
        """Names the hospital in most of the quarrels, and returns the other ones that reported some.

        One liar is in all of them. Of a single one it is taken to be the one that is reported.
        """
        reported = Counter(chain.from_iterable(reports.values()))
        quarrels = reported + Counter({name: len(others) for name, others in reports.items()})
        liars = sorted(quarrels, key=lambda name: (-quarrels[name], -reported[name], name))[:1]
        for liar in liars:
            self.blame(stage, liar, code, f"{text} ({', '.join(sorted(reports))})")
        return {*reports} - {*liars}

    def check(self, names: Collection[str], what: str, least: int) -> None:
        """Refuses to go on with too few hospitals."""
        if len(names) < least:
            raise RunError(
                f"secure sum: {len(names)} of {self.plan.terms.hospitals} hospitals {what}, {least} are needed for the "
                f"promise ({', '.join(sorted(names))}); the sum is given up and nothing was learnt"
            )


def _keys(exchange: _Exchange) -> Roster:
    terms = exchange.plan.terms
    if not withstands(terms.hospitals, terms.colluders):
        raise RunError(
            f"a secure sum of {terms.hospitals} hospitals cannot withstand {terms.colluders} colluders: it needs at "
            "least three hospitals and more than twice as many hospitals as colluders"
        )
    keys = {}
    for reply in exchange.ask(0, None, {}, KEYS, ledger=exchange.request.ledger):
        try:
            check_keys(exchange.session, reply.site, reply.arrays, terms.colluders)
        except PrivacyError as error:
            exchange.blame(0, reply.site, "keys", str(error))
        else:
            keys[reply.site] = reply.arrays
    exchange.check(keys, "sent keys", terms.honest)
    return Roster.of(keys, terms.colluders)


def _shares(exchange: _Exchange, roster: Roster) -> tuple[Roster, dict[str, Ints]]:
    """The roster that its hospitals trust, and each one's parcels for all, [n, PARCEL / 8]: they open for nobody else.

    A hospital that knows another identity of someone's says so, and is asked again for a roster without that one.
    """
    while True:
        exchange.check(roster.names, "sent keys", exchange.plan.terms.honest)
        parcels, strangers = dict[str, Ints](), dict[str, list[str]]()
        expect = {"parcels": (len(roster.names), _PARCEL), "strangers": (len(roster.names),)}
        for reply in exchange.ask(1, roster, {}, expect, only=roster.names):
            if unknown := roster.at(reply.arrays["strangers"]):
                strangers[reply.site] = unknown
            else:
                parcels[reply.site] = reply.arrays["parcels"]
        if not strangers:
            return roster, parcels
        others = exchange.quarrel(1, strangers, "identity", "its identity key is not the one that was exchanged")
        if len(parcels) >= max(exchange.plan.terms.honest, roster.quorum):
            return roster, parcels
        roster = roster.among(others)


def _masked(exchange: _Exchange, roster: Roster, parcels: Mapping[str, Ints]) -> tuple[Ints, Standing]:
    """The sum of masked vectors modulo 2^64, and who is in it.

    A hospital to which a parcel did not open has not paid yet, and says whose it was. If too few are left without it,
    those that have not are asked again, for a sum without whoever is to blame.
    """
    request, present = exchange.request, {*parcels}
    size = sum(int(np.prod(spec.shape)) for spec in request.expect.values())
    while True:
        exchange.check(present, "have each other's shares", max(exchange.plan.terms.honest, roster.quorum))
        total, survivors, closed = np.zeros(size, np.uint64), list[str](), dict[str, list[str]]()
        for reply in _masked_replies(exchange, roster, {name: parcels[name] for name in present}, size):
            if senders := roster.at(reply.arrays["closed"]):
                closed[reply.site] = senders
            else:
                total = total + reply.arrays["masked"].view(np.uint64)
                survivors.append(reply.site)
        others = exchange.quarrel(2, closed, "parcels", "its sealed shares, or those for it, do not open")
        if not closed or len(survivors) >= roster.least(len(present)):
            break
        present = others
    exchange.check(survivors, "sent masked sums", roster.least(len(present)))
    return total.view(np.int64), Standing(roster.flags(present), roster.flags(survivors))


def _masked_replies(exchange: _Exchange, roster: Roster, parcels: Mapping[str, Ints], size: int) -> Iterator[Reply]:
    def parcels_for(site: str) -> dict[str, Array]:
        nothing, me = np.zeros((len(roster.names), _PARCEL), np.int64), roster.names.index(site)
        return {"parcels": np.stack([parcels.get(name, nothing)[me] for name in roster.names])}

    request, expect = exchange.request, {"masked": (size,), "closed": (len(roster.names),)}
    arrays = {**request.arrays, "present": roster.flags(parcels)}
    return exchange.ask(2, roster, arrays, expect, own=parcels_for, ledger=request.ledger, only=tuple(parcels))


def _signatures(exchange: _Exchange, roster: Roster, standing: Standing) -> dict[str, Ints]:
    """The survivors' signatures, by name."""
    survivors = tuple(roster.names[place] for place in places(standing.survivors))
    statement, signatures = standing.statement(exchange.session, roster.digest), {}
    for reply in exchange.ask(3, roster, standing.arrays, {"signature": (_SIGNATURE,)}, only=survivors):
        if roster.signed(roster.names.index(reply.site), reply.arrays["signature"], statement):
            signatures[reply.site] = reply.arrays["signature"]
        else:
            exchange.blame(3, reply.site, "signature", "it did not sign who is in the sum")
    exchange.check(signatures, "signed who is in the sum", roster.quorum)
    return signatures


def _masks(
    exchange: _Exchange, roster: Roster, standing: Standing, signatures: Mapping[str, Ints]
) -> tuple[list[bytes], dict[int, dict[int, bytes]]]:
    """What survivors tell: secrets of the survivors' own masks, and the drop-outs' keys of pairwise ones."""
    count, nobody = len(roster.names), np.zeros(_SIGNATURE, np.int64)
    signed = {"signatures": np.stack([signatures.get(name, nobody) for name in roster.names])}
    expect = {"shares": (count, _SHARE)}
    replies = exchange.ask(4, roster, {**standing.arrays, **signed}, expect, only=tuple(signatures))
    shares = {roster.names.index(reply.site): reply.arrays["shares"] for reply in replies}
    exchange.check([roster.names[holder] for holder in shares], "helped to take the masks off", roster.quorum)
    liars: list[int] = []
    secrets = {}
    for place in places(standing.present):
        held = {holder: masking.to_bytes(rows[place]) for holder, rows in shares.items()}
        secrets[place] = _secret(exchange, roster, (place, bool(standing.survivors[place])), held, liars)
    purpose = f"mask/{exchange.plan.digest}"
    partners = {place: roster.public(place, PAIR) for place in places(standing.survivors)}
    left = {
        gone: {place: masking.agreed_key(secrets[gone], public, purpose) for place, public in partners.items()}
        for gone in standing.gone
    }
    return [secrets[place] for place in partners], left


def _secret(
    exchange: _Exchange, roster: Roster, whose: tuple[int, bool], held: Mapping[int, bytes], liars: list[int]
) -> bytes:
    """The secret that a hospital's shares give: of its own mask if it survived, else of its pairs, as it has signed.

    Whose share does not fit is named, added to the liars, and taken last from then on.
    """
    place, survived = whose
    holders = sorted(held, key=lambda holder: holder in liars)
    spare = len(holders) - roster.quorum
    without = chain.from_iterable(combinations(holders, count) for count in range(spare + 1))
    for left_out in islice(without, _TRIES):
        chosen = [holder for holder in holders if holder not in left_out][: roster.quorum]
        secret = masking.joined({holder: held[holder] for holder in chosen})
        public = masking.commitment(secret) if survived else masking.public_key(secret)
        if public == roster.public(place, OWN if survived else PAIR):
            for liar in set(left_out) - set(liars):
                exchange.blame(4, roster.names[liar], "shares", "a share that it told is not the one it was given")
            liars += [holder for holder in left_out if holder not in liars]
            return secret
    raise RunError(
        f"{exchange.request.task}: the shares do not give the secret that {roster.names[place]!r} has signed: it sent "
        f"wrong ones, or more than {spare} of the others told wrong ones; the sum is given up"
    )
