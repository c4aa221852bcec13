"""The hospital's side of a secure sum: four stages, each answered once, whatever the server asks again.

What must survive between the messages, which may be processes of their own, lies in one file of the hospital's folder.
A stage that was answered is answered the same way again; a server that changes its story in between (another roster,
other survivors) is refused, because two stories together would open a hospital's own mask.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from medtl_core.errors import PrivacyError
from medtl_core.federation.secure_sum import STAGES
from medtl_core.federation.tasks import Arrays, Config
from medtl_core.privacy import masking
from medtl_core.privacy.gate import check, release
from medtl_core.privacy.identity import PEERS, own_identity, trusted_peers
from medtl_core.privacy.masking import Ints, Secrets, to_bytes, to_words
from medtl_core.privacy.noise import system_entropy
from medtl_core.privacy.plan import Step
from medtl_core.store import to_json, write_bytes
from medtl_core.values import Array, PrivacyEvent, Released, Update, digest

from .gate import PrivateRequest, private_request
from .site import Site


@dataclass(frozen=True)
class Session:
    """One secure sum at this hospital.

    Attributes:
        path: of its file.
        name: both sides' name for it, in every signature and key.
        site: this hospital's name.
        secrets: drawn for this sum only.
    """

    path: Path
    name: str
    site: str
    secrets: Secrets

    def agree(self, fact: str, value: Any) -> None:
        """Fixes a fact the first time, and refuses another value ever after.

        Raises:
            PrivacyError: the server said something else before.
        """
        if self._once("facts", fact, value) != value:
            raise PrivacyError(f"secure sum: the server changed {fact}; nothing more is told about this sum")

    def agreed(self, fact: str) -> Any:
        """Returns a fact fixed before.

        Raises:
            PrivacyError: it was not: a stage is missing.
        """
        facts = json.loads(self.path.read_text(encoding="utf-8"))["facts"]
        if fact not in facts:
            raise PrivacyError(f"secure sum: the server skipped a stage ({fact} is not known)")
        return facts[fact]

    def answer(self, name: str, fresh: Ints) -> dict[str, Array]:
        """Returns an answer as it was given the first time: shares are drawn at random, and two draws would not fit."""
        return {name: np.array(self._once("answers", name, fresh.tolist()), np.int64)}

    def _once(self, table: str, name: str, value: Any) -> Any:
        """What is written under a name: `value` the first time, whatever that was ever after."""
        state = json.loads(self.path.read_text(encoding="utf-8"))
        first = state[table].setdefault(name, value)
        _write(self.path, state)
        return first


def staged(site: Site, stage: str, arrays: Arrays, config: Config) -> Released:
    """Answers one stage of a secure sum.

    Raises:
        PrivacyError: settings, plan, policy, signatures or the server's story do not hold; nothing is told.
    """
    if not site.settings.secure_sum:
        raise PrivacyError("a secure sum needs secure-sum=true")
    # the private task's own question, which the ledger remembers
    outer = ("roster-", "present", "survivors", "parcels")
    inner = {name: array for name, array in arrays.items() if not name.startswith(outer)}
    told = {name: value for name, value in config.items() if name not in ("inner", "roster", "threshold")}
    request = private_request(site, str(config["inner"]), inner, told)
    check(request.demand)
    if stage == STAGES[0]:
        with request.ledger() as ledger:  # who cannot pay, or has lost records, must not become a drop-out later
            ledger.afford(request.key, request.demand.plan.steps[request.demand.step])
            witness = request.witness(ledger)
        return replace(_unpaid(_keys(_session(request), request.home)), witness=witness)
    session = _session(request)
    roster = _roster(session, arrays, config, request)
    if stage == STAGES[2]:
        return _masked(session, roster, arrays, request)
    return _unpaid((_parcels if stage == STAGES[1] else _unmasking_shares)(session, roster, arrays))


@dataclass(frozen=True)
class _Roster:
    names: tuple[str, ...]
    me: int
    seal: tuple[bytes, ...]
    pair: tuple[bytes, ...]
    threshold: int


def _keys(session: Session, home: Path) -> dict[str, Array]:
    identity = own_identity(home)
    public = [masking.public_key(session.secrets.seal), masking.public_key(session.secrets.pair)]
    signature = masking.signed(identity, _statement(session.name, session.site, *public))
    return {
        "public": np.stack([to_words(key) for key in public]),
        "identity": to_words(masking.identity_public(identity)),
        "signature": to_words(signature),
    }


def _roster(session: Session, arrays: Arrays, config: Config, request: PrivateRequest) -> _Roster:
    names = tuple(str(config["roster"]).split("/"))
    keys, identity, signature = (arrays[f"roster-{part}"] for part in ("keys", "identity", "signature"))
    terms = request.demand.plan.terms
    needed = terms.honest
    if len(names) != len(keys) or len(set(names)) < len(names) or session.site not in names or len(names) < needed:
        raise PrivacyError("secure sum: the roster does not name this hospital among enough others, each once")
    if int(config["threshold"]) != needed or needed <= terms.colluders:
        raise PrivacyError("secure sum: the threshold is not that of the plan")
    trusted = trusted_peers(request.home)
    for place, name in enumerate(names):
        seal, pair, owner = to_bytes(keys[place, 0]), to_bytes(keys[place, 1]), to_bytes(identity[place])
        masking.check_signature(owner, to_bytes(signature[place]), _statement(session.name, name, seal, pair), name)
        if trusted is not None and trusted.get(name) != owner.hex():
            raise PrivacyError(f"secure sum: {name!r} does not have the identity key in {PEERS}; nothing is masked")
    me = names.index(session.site)
    if to_bytes(keys[me, 0]) != masking.public_key(session.secrets.seal):
        raise PrivacyError("secure sum: the roster has other keys of this hospital than it sent")
    session.agree("roster", digest({"names": names, "keys": keys.tolist()}))
    seals, pairs = (tuple(to_bytes(keys[place, kind]) for place in range(len(names))) for kind in (0, 1))
    return _Roster(names, me, seals, pairs, needed)


def _parcels(session: Session, roster: _Roster, arrays: Arrays) -> dict[str, Array]:
    secrets, rows = session.secrets, []
    shares = (masking.split(secret, roster.threshold, len(roster.names)) for secret in (secrets.pair, secrets.own))
    for name, public, pair, own in zip(roster.names, roster.seal, *shares, strict=True):
        key = masking.agreed_key(secrets.seal, public, f"parcel/{session.name}/{session.site}/{name}")
        rows.append(to_words(masking.seal(key, pair + own)))
    return session.answer("parcels", np.stack(rows))


def _masked(session: Session, roster: _Roster, arrays: Arrays, request: PrivateRequest) -> Released:
    present = _flags(arrays["present"], roster, "present")
    _shares(session, roster, arrays["parcels"], present)  # every parcel must open before anything is masked
    session.agree("present", present)
    session.agree("parcels-in", arrays["parcels"].tolist())
    keys = {
        place: masking.agreed_key(session.secrets.pair, roster.pair[place], f"mask/{request.demand.plan.digest}")
        for place in present
        if place != roster.me
    }

    def finish(noised: Mapping[str, Array], step: Step) -> dict[str, Array]:
        flat = np.concatenate([np.asarray(noised[name], np.int64).ravel() for name in sorted(noised)])
        return {"masked": masking.masked(flat, roster.me, keys, session.secrets.own)}

    with request.ledger() as ledger:
        released = release(request.demand, request.sums, ledger, request.key, system_entropy(), finish)
        return replace(released, witness=request.witness(ledger))


def _unmasking_shares(session: Session, roster: _Roster, arrays: Arrays) -> dict[str, Array]:
    """This hospital's shares: of the survivors' own masks, and of the drop-outs' pairwise keys; never both of one."""
    present = _flags(arrays["present"], roster, "present")
    survivors = _flags(arrays["survivors"], roster, "survivors")
    if not set(survivors) <= set(present) or roster.me not in survivors:
        raise PrivacyError("secure sum: the survivors are not among those present; no mask is taken off")
    session.agree("present", present)
    session.agree("survivors", survivors)
    shares = _shares(session, roster, np.array(session.agreed("parcels-in"), np.int64), present)
    rows = np.zeros((len(roster.names), masking.SECRET // 8), np.int64)
    for place, (pair, own) in shares.items():
        rows[place] = to_words(own if place in survivors else pair)
    return {"shares": rows}


def _shares(session: Session, roster: _Roster, parcels: Ints, present: list[int]) -> dict[int, tuple[bytes, bytes]]:
    found = {}
    for place in present:
        purpose = f"parcel/{session.name}/{roster.names[place]}/{session.site}"
        key = masking.agreed_key(session.secrets.seal, roster.seal[place], purpose)
        content = masking.unseal(key, to_bytes(parcels[place]))
        found[place] = (content[: masking.SECRET], content[masking.SECRET :])
    return found


def _flags(flags: Array, roster: _Roster, what: str) -> list[int]:
    places = [int(place) for place in np.flatnonzero(flags)]
    if len(flags) != len(roster.names) or len(places) < roster.threshold:
        raise PrivacyError(f"secure sum: too few hospitals are {what}; nothing is told")
    return places


def _session(request: PrivateRequest) -> Session:
    key, folder = request.key, request.home / "secure"
    name = digest({"agreement": key.agreement, "plan": key.plan, "step": key.step, "number": key.number})
    path = folder / f"{name[:32]}.json"
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        fresh = {part: secret.hex() for part, secret in vars(masking.fresh_secrets()).items()}
        _write(path, {"secrets": fresh, "facts": {}, "answers": {}})
    drawn = json.loads(path.read_text(encoding="utf-8"))["secrets"]
    secrets = Secrets(*(bytes.fromhex(drawn[part]) for part in ("seal", "pair", "own")))
    return Session(path, name, request.site.data.name, secrets)


def _statement(session: str, site: str, seal: bytes, pair: bytes) -> bytes:
    return json.dumps([session, site, seal.hex(), pair.hex()]).encode()


def _unpaid(arrays: dict[str, Array]) -> Released:
    """Keys and shares of masks tell nothing about patients; the event says that they cost nothing."""
    return Released(Update(arrays), PrivacyEvent("mask", 0.0, 0.0))


def _write(path: Path, content: Any) -> None:
    try:
        write_bytes(path, to_json(content).encode(), mode=0o600)
    except OSError as error:
        raise PrivacyError(f"the secure sum's state cannot be written ({error.strerror}); nothing is told") from error
