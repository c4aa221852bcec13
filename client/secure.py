"""The hospital's side of a secure sum: five stages, each answered once, whatever the server asks again.

A stage that was answered is answered the same way again; a server that changes its story in between (another roster,
other survivors) is refused, because two stories together would open a hospital's own mask. So is one that tells
hospitals apart: masks are taken off only for survivors that a quorum of the roster has signed (`privacy.roster`).
"""

import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace

import numpy as np

from medtl_core.errors import PrivacyError
from medtl_core.federation.secure_sum import STAGES
from medtl_core.federation.tasks import Arrays, Config
from medtl_core.privacy import masking
from medtl_core.privacy.gate import check, release
from medtl_core.privacy.identity import own_identity, public_identity, trusted_peers
from medtl_core.privacy.masking import Ints, to_bytes, to_words
from medtl_core.privacy.noise import system_entropy
from medtl_core.privacy.plan import Step
from medtl_core.privacy.roster import PAIR, SEAL, Roster, Standing, check_keys, keys_statement, places, sent, session_of
from medtl_core.values import Array, PrivacyEvent, Released, Update

from .gate import PrivateRequest, private_request
from .session import Session
from .site import Site

_KEYS, _SHARES, _MASKED, _SURVIVORS, _UNMASK = STAGES


def staged(site: Site, stage: str, arrays: Arrays, config: Config) -> Released:
    """Answers one stage of a secure sum.

    Guarantee:
        What the plan promises holds for any sum that is opened with this hospital's patients in it, if at most the
        policy's `minimum_colluders` of the hospitals whose identities it has exchanged pool what they know with the
        server. The server may lie, pose as others, tell hospitals apart and leave out whom it wants: every hospital
        adds one share in (present - t) of the noise, and at least (present - t) in the sum are honest. In a simulation
        without exchanged identities the server must not pose as others. Public: names, keys, who was there.

    Raises:
        PrivacyError: settings, plan, policy, signatures or the server's story do not hold; nothing is told.
    """
    if not site.settings.secure_sum or stage not in STAGES:
        raise PrivacyError(f"{stage!r} is no stage of a secure sum, or this run has none: it needs secure-sum=true")
    # the private task's own question, which the ledger remembers
    outer = ("roster-", "present", "survivors", "parcels", "signatures")
    inner = {name: array for name, array in arrays.items() if not name.startswith(outer)}
    told = {name: value for name, value in config.items() if name not in ("inner", "roster")}
    request = private_request(site, str(config.get("inner")), inner, told)
    check(request.demand)
    trusted = _trusted(request)
    key = request.key
    name = session_of(key.agreement, key.plan, key.step, key.number)
    session = Session.of(request.home / "secure", name, site.data.name)
    if stage == _KEYS:
        with request.ledger() as ledger:  # who cannot pay, or has lost records, must not become a drop-out later
            ledger.afford(request.key, request.demand.plan.steps[request.demand.step])
            witness = request.witness(ledger)
        return replace(_unpaid(_keys(session, request)), witness=witness)
    roster = _roster(session, arrays, config, request)
    if stage == _SHARES:
        return _unpaid(_parcels(session, roster, request, trusted))
    if session.agreed("roster") != roster.digest:
        raise PrivacyError("secure sum: the server changed the roster; nothing more is told about this sum")
    if stage == _MASKED:
        return _masked(session, roster, arrays, request)
    return _unpaid((_signature if stage == _SURVIVORS else _unmasking_shares)(session, roster, arrays, request))


def _trusted(request: PrivateRequest) -> Mapping[str, str] | None:
    """The identity keys of whom this hospital trusts, its own among them; None = anyone's, in a simulation alone."""
    policy, terms, simulated = request.policy, request.demand.plan.terms, request.site.simulated
    if not (policy.secure_sum or simulated):
        raise PrivacyError("policy: secure sums are not allowed here; secure_sum = true allows them")
    if terms.colluders < policy.minimum_colluders:
        raise PrivacyError(
            f"policy: colluders={terms.colluders} of the run is below minimum_colluders={policy.minimum_colluders}"
        )
    peers = trusted_peers(request.home)
    if peers is None:
        if simulated:
            return None
        raise PrivacyError("secure sum: this hospital has exchanged no identity keys; write the others' under [peers]")
    trusted = {request.site.data.name: public_identity(request.home), **peers}
    if terms.hospitals > len(trusted) or len({*trusted.values()}) < len(trusted):
        raise PrivacyError(
            f"secure sum: the run has sites={terms.hospitals}; peers and this hospital must make as many, each with an "
            "identity of its own"
        )
    return trusted


def _keys(session: Session, request: PrivateRequest) -> dict[str, Array]:
    session.begin()

    def make() -> dict[str, Ints]:
        identity, secrets, least = own_identity(request.home), session.secrets, request.policy.minimum_colluders
        keys = [masking.public_key(secrets.seal), masking.public_key(secrets.pair), masking.commitment(secrets.own)]
        public = np.stack([to_words(key) for key in keys])
        signature = masking.signed(identity, keys_statement(session.name, session.site, public, least))
        return {
            "public": public, "identity": to_words(masking.identity_public(identity)), "least": np.array([least]),
            "signature": to_words(signature),
        }  # fmt: skip

    return session.answer(_KEYS, make)


def _roster(session: Session, arrays: Arrays, config: Config, request: PrivateRequest) -> Roster:
    names, terms = str(config.get("roster")).split("/"), request.demand.plan.terms
    if len({*names}) < len(names) or session.site not in names or not terms.honest <= len(names) <= terms.hospitals:
        raise PrivacyError("secure sum: the roster does not name this hospital among enough others, each once")
    return Roster.read(names, arrays, terms.colluders)


def _parcels(
    session: Session, roster: Roster, request: PrivateRequest, trusted: Mapping[str, str] | None
) -> dict[str, Array]:
    """Sealed shares for everyone in the roster, or whose identity is not the one that was exchanged."""
    for place, name in enumerate(roster.names):
        check_keys(session.name, name, roster.row(place), roster.colluders)
    own, me = _keys(session, request), roster.row(roster.names.index(session.site))
    if any((own[key] != me[key]).any() for key in own):
        raise PrivacyError("secure sum: the roster has other keys of this hospital than it sent")
    identities = zip(roster.names, roster.keys["identity"], strict=True)
    strangers = [name for name, key in identities if trusted is not None and trusted.get(name) != to_bytes(key).hex()]
    if strangers:
        rows = np.zeros((len(roster.names), masking.PARCEL // 8), np.int64)
        return {"parcels": rows, "strangers": roster.flags(strangers)}
    session.agree(roster=roster.digest)

    def make() -> dict[str, Ints]:
        secrets, rows = session.secrets, []
        shares = (masking.split(secret, roster.quorum, len(roster.names)) for secret in (secrets.pair, secrets.own))
        for place, (pair, own) in enumerate(zip(*shares, strict=True)):
            key = _parcel_key(session, roster, place, sender=session.site, receiver=roster.names[place])
            rows.append(to_words(masking.seal(key, pair + own)))
        return {"parcels": np.stack(rows), "strangers": np.zeros(len(rows), np.int64)}

    return session.answer(_SHARES, make)


def _masked(session: Session, roster: Roster, arrays: Arrays, request: PrivateRequest) -> Released:
    """The masked sum, or, unpaid, whose parcels do not open: a sum without them can still be taken."""
    count, plan = len(roster.names), request.demand.plan
    me, present = roster.names.index(session.site), places(sent(arrays, "present", (count,)))
    if me not in present or len(present) < max(roster.quorum, plan.terms.honest):
        raise PrivacyError("secure sum: too few hospitals are present, or this one is not; nothing is told")
    if not session.knows("present"):
        parcels = sent(arrays, "parcels", (count, masking.PARCEL // 8))
        closed = {*present} - _opened(session, roster, parcels, present).keys()
        if closed:
            return _closed(request, np.array([place in closed for place in range(count)], np.int64))
        session.agree(present=present, parcels=parcels.tolist())
    session.agree(present=present)

    def finish(noised: Mapping[str, Array], step: Step) -> dict[str, Array]:
        secrets, purpose = session.secrets, f"mask/{plan.digest}"
        keys = {
            place: masking.agreed_key(secrets.pair, roster.public(place, PAIR), purpose)
            for place in present
            if place != me
        }
        flat = np.concatenate([np.asarray(noised[name], np.int64).ravel() for name in sorted(noised)])
        return {"masked": masking.masked(flat, me, keys, secrets.own), "closed": np.zeros(count, np.int64)}

    demand = replace(request.demand, sharers=len(present) - roster.colluders)
    with request.ledger() as ledger:
        released = release(demand, request.sums, ledger, request.key, system_entropy(), finish)
        return replace(released, witness=request.witness(ledger))


def _closed(request: PrivateRequest, closed: Ints) -> Released:
    size = sum(math.prod(shape) for shape in request.demand.shapes.values())
    with request.ledger() as ledger:
        witness = request.witness(ledger)
    return replace(_unpaid({"masked": np.zeros(size, np.int64), "closed": closed}), witness=witness)


def _signature(session: Session, roster: Roster, arrays: Arrays, request: PrivateRequest) -> dict[str, Array]:
    standing = _standing(session, roster, arrays)
    session.agree(survivors=places(standing.survivors))
    statement = standing.statement(session.name, roster.digest)
    return {"signature": to_words(masking.signed(own_identity(request.home), statement))}


def _unmasking_shares(session: Session, roster: Roster, arrays: Arrays, request: PrivateRequest) -> dict[str, Array]:
    """This hospital's shares: of the survivors' own masks, and of the drop-outs' pairwise keys; never both of one."""
    standing, count = _standing(session, roster, arrays), len(roster.names)
    survivors, signatures = places(standing.survivors), sent(arrays, "signatures", (count, masking.SIGNATURE // 8))
    statement = standing.statement(session.name, roster.digest)
    signers = [place for place in survivors if roster.signed(place, signatures[place], statement)]
    if session.agreed("survivors") != survivors or len(signers) < roster.quorum:
        raise PrivacyError("secure sum: too few hospitals have signed these survivors; no mask is taken off")

    def make() -> dict[str, Ints]:
        parcels = np.array(session.agreed("parcels"), np.int64)
        rows = np.zeros((count, masking.SECRET // 8), np.int64)
        for place, (pair, own) in _opened(session, roster, parcels, places(standing.present)).items():
            rows[place] = to_words(own if place in survivors else pair)
        return {"shares": rows}

    return session.answer(_UNMASK, make, last=True)


def _standing(session: Session, roster: Roster, arrays: Arrays) -> Standing:
    shape = (len(roster.names),)
    standing = Standing(sent(arrays, "present", shape), sent(arrays, "survivors", shape))
    present, survivors = places(standing.present), places(standing.survivors)
    if session.agreed("present") != present:
        raise PrivacyError("secure sum: the server changed present; nothing more is told about this sum")
    if not {*survivors} <= {*present} or roster.names.index(session.site) not in survivors:
        raise PrivacyError("secure sum: the survivors are not among those present; no mask is taken off")
    if len(survivors) < roster.least(len(present)):
        raise PrivacyError("secure sum: too few hospitals survived for the noise that was promised; it is given up")
    return standing


def _opened(session: Session, roster: Roster, parcels: Ints, present: list[int]) -> dict[int, tuple[bytes, bytes]]:
    """Shares of the pair and the own secret, by sender's place, from the parcels that open."""
    shares = {}
    for place in present:
        key = _parcel_key(session, roster, place, sender=roster.names[place], receiver=session.site)
        with suppress(PrivacyError):
            content = masking.unseal(key, to_bytes(parcels[place]))
            shares[place] = (content[: masking.SECRET], content[masking.SECRET :])
    return shares


def _parcel_key(session: Session, roster: Roster, place: int, *, sender: str, receiver: str) -> bytes:
    """The key of a parcel to or from a place; it opens for nobody who was told of another roster."""
    purpose = f"parcel/{session.name}/{roster.digest}/{sender}/{receiver}"
    return masking.agreed_key(session.secrets.seal, roster.public(place, SEAL), purpose)


def _unpaid(arrays: dict[str, Array]) -> Released:
    """Keys, signatures and shares of masks tell nothing about patients; the event says that they cost nothing."""
    return Released(Update(arrays), PrivacyEvent("mask", 0.0, 0.0))
