"""The hospital's privacy ledger: what was ever spent on its patients, kept on its own disk, and refusing.

reserve -> compute -> seal -> release -> send. A reservation is spent for ever, whether or not a release follows: after
a crash nobody can know what left. A release that is on record is sent again as the same bytes, which costs nothing.
"""

import hashlib
import hmac
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self, final

from medtl_core.errors import BudgetError, PrivacyError
from medtl_core.privacy.accounting import epsilon
from medtl_core.privacy.identity import kept_key
from medtl_core.privacy.journal import VERSION, Journal, Record
from medtl_core.privacy.plan import GaussianEvent, Plan, Step
from medtl_core.privacy.policy import Policy
from medtl_core.privacy.requester import NOBODY, Requester, now
from medtl_core.store import write_bytes

#: In the folder of a hospital: the folder of its one ledger (a simulated hospital's has one a method in it), and the
#: file with the key of its fingerprints.
LEDGER, SITE_KEY = "privacy", "site.key"
UNIT, ADJACENCY = "patient", "add or remove one patient"


@dataclass(frozen=True)
class Identity:
    """Whose ledger it is: a hospital's, by name, and that of a keyed hash of its patients (see `fingerprint`)."""

    site: str
    fingerprint: str


@dataclass(frozen=True)
class Key:
    """Which release.

    Attributes:
        agreement: of the run.
        plan: digest of the plan.
        step: index into it.
        number: of the round.
        question: hash of the public arrays and values it was asked with.
    """

    agreement: str
    plan: str
    step: int
    number: int
    question: str


def fingerprint(patients: Iterable[str], folder: Path) -> str:
    """Returns the keyed hash (HMAC-SHA-256) of a set of patients; the key never leaves `folder`.

    Raises:
        PrivacyError: the key cannot be read or made.
    """
    secret = kept_key(folder / SITE_KEY, "site key")
    return hmac.new(secret, "\n".join(sorted(set(patients))).encode(), hashlib.sha256).hexdigest()


@final
class Ledger:
    """The ledger of one folder; use it as a context manager.

    Guarantee:
        While the folder and its backups are the hospital's alone, every release sent through `privacy.gate` was
        reserved on disk before it was computed, and the events of all reservations together cost at most
        `policy.max_epsilon` at `policy.delta`, for one patient added or removed. Public: nothing; the server is told
        the number and hash of the last record, so that it can notice an older copy put back. Records say when they were
        written, by one look at the clock, before any patient is looked at: the hash tells no time of the work.
    """

    def __init__(self, folder: Path, identity: Identity, policy: Policy, asker: Requester = NOBODY) -> None:
        self._journal, self._identity, self._policy = Journal(folder), identity, policy
        self._about = {"version": VERSION, "at": now(), "asked": asker.values}

    def __enter__(self) -> Self:
        self._journal.__enter__()
        try:
            self._introduce()
        except BaseException:
            self._journal.close()
            raise
        return self

    def __exit__(self, *raised: object) -> None:
        self._journal.close()

    @property
    def records(self) -> tuple[Record, ...]:
        """Everything written."""
        return self._journal.records

    @property
    def witness(self) -> tuple[int, str]:
        """Number and hash of the last record: what a server may remember."""
        return self._journal.head

    @property
    def budget(self) -> float:
        """The epsilon that may be spent; see `budget_of`."""
        return budget_of(self.records, self._policy)

    def check_witness(self, seq: int, shown: str) -> None:
        """Refuses to go on when the server has seen a record that is not here: an older copy was put back.

        Args:
            seq: number of the record.
            shown: its hash, as this hospital showed it.

        Raises:
            PrivacyError: it has.
        """
        if not 1 <= seq <= len(self.records) or self.records[seq - 1].hash != shown:
            raise PrivacyError(
                f"the ledger in {self._journal.folder} lacks record {seq} that this hospital has shown before: it was "
                "rolled back, or is another one. Restore the newest copy; other patients need a folder of their own"
            )

    def spent(self, delta: float) -> float:
        """Returns the epsilon of everything reserved so far."""
        return epsilon(events_of(self.records), delta)

    def sealed(self, key: Key) -> bytes | None:
        """Returns the bytes released under this key, or None if there was no release.

        Raises:
            PrivacyError: the same release was asked with another question, or the sealed file is missing or damaged.
        """
        for record in of_kind(self.records, "release"):
            if _same_release(record.body["key"], key):
                if record.body["key"] != asdict(key):
                    raise PrivacyError("this release was made for another question; a plan is not asked twice")
                return self._unsealed(record)
        return None

    def reserve(self, key: Key, plan: Plan, step: Step) -> None:
        """Writes down what one release will cost, before anything is computed.

        Raises:
            PrivacyError: the plan changed after its first release, or the ledger cannot be written.
            BudgetError: it would cost more than the hospital allows.
        """
        after = self._priced(step)
        self._freeze(key, plan)
        self._append({"kind": "reserve", "key": asdict(key), "event": asdict(step.one), "epsilon": after})

    def afford(self, key: Key, step: Step) -> None:
        """Refuses a release that could not be paid for, before a sum is begun with others; nothing is written.

        Raises:
            BudgetError: it was not made before, and would cost more than the hospital allows.
        """
        if not any(_same_release(record.body["key"], key) for record in of_kind(self.records, "release")):
            self._priced(step)

    def release(self, key: Key, payload: bytes) -> None:
        """Seals the reply to disk and writes the release down; only then may it be sent.

        Raises:
            PrivacyError: nothing was reserved under the key, or the disk failed; the reservation stays spent.
        """
        if not any(record.body["key"] == asdict(key) for record in of_kind(self.records, "reserve")):
            raise PrivacyError("a release without a reservation is refused")
        digest = hashlib.sha256(payload).hexdigest()
        try:
            (self._journal.folder / "sealed").mkdir(exist_ok=True, mode=0o700)
            write_bytes(self._seal(digest), payload, mode=0o600)
        except OSError as error:
            raise PrivacyError(f"the reply cannot be sealed to disk ({error.strerror}); it is not sent") from error
        self._append({"kind": "release", "key": asdict(key), "sha256": digest, "bytes": len(payload)})

    def note(self, text: str) -> None:
        """Writes down what a reader should know, e.g. that a test's insecure noise was used."""
        self._append({"kind": "note", "text": text})

    def _append(self, body: Mapping[str, Any]) -> None:
        self._journal.append({**body, **self._about})

    def _priced(self, step: Step) -> float:
        """The epsilon after one more release of a step, if that is allowed."""
        reserved = sum(1 for _ in of_kind(self.records, "reserve"))
        if reserved >= self._policy.max_releases:
            raise BudgetError(f"the policy allows {self._policy.max_releases} releases, and they are used up")
        after = epsilon([*events_of(self.records), step.one], self._policy.delta)
        if not after <= self.budget * (1 + 1e-9):  # also refuses NaN
            raise BudgetError(f"the release would bring epsilon to {after:.4g}; the hospital allows {self.budget:.4g}")
        return after

    def _introduce(self) -> None:
        mine = asdict(self._identity)
        opened = next(of_kind(self.records, "open"), None)
        if opened is None:
            self._append({"kind": "open", **mine, "unit": UNIT, "adjacency": ADJACENCY})
        elif {name: opened.body.get(name) for name in mine} != mine:
            raise PrivacyError(
                f"the ledger in {self._journal.folder} belongs to another site or other patients; "
                "give every data set a folder of its own"
            )

    def _freeze(self, key: Key, plan: Plan) -> None:
        """The first reservation of a run's mechanism fixes its plan."""
        for record in of_kind(self.records, "plan"):
            if (record.body["agreement"], record.body["mechanism"]) == (key.agreement, plan.mechanism):
                if record.body["digest"] != plan.digest:
                    raise PrivacyError(f"the plan of {plan.mechanism} changed after its first release")
                return
        steps = [asdict(step) for step in plan.steps]
        body = {"kind": "plan", "agreement": key.agreement, "mechanism": plan.mechanism, "digest": plan.digest}
        self._append({**body, "terms": asdict(plan.terms), "steps": steps})

    def _seal(self, digest: str) -> Path:
        return self._journal.folder / "sealed" / f"{digest}.safetensors"

    def _unsealed(self, record: Record) -> bytes:
        path = self._seal(record.body["sha256"])
        try:
            payload = path.read_bytes()
        except OSError as error:
            raise PrivacyError(f"the sealed reply {path.name} cannot be read ({error.strerror})") from error
        if hashlib.sha256(payload).hexdigest() != record.body["sha256"]:
            raise PrivacyError(f"the sealed reply {path.name} is damaged; it cannot be sent again")
        return payload


def _same_release(body: Mapping[str, Any], key: Key) -> bool:
    mine = asdict(key)
    return all(body[name] == mine[name] for name in ("agreement", "plan", "step", "number"))


def of_kind(records: Iterable[Record], kind: str) -> Iterator[Record]:
    """Yields the records of a kind."""
    return (record for record in records if record.body["kind"] == kind)


def events_of(records: Iterable[Record]) -> tuple[GaussianEvent, ...]:
    """Returns every event ever reserved."""
    return tuple(GaussianEvent(**record.body["event"]) for record in of_kind(records, "reserve"))


def budget_of(records: Iterable[Record], policy: Policy) -> float:
    """Returns the epsilon that may be spent: the policy's, or what a person at the hospital raised it to since.

    A raise holds while the policy says the `max_epsilon` under which it was made; whoever writes another one there,
    more or less, wants that one. (A raise of an older medtl names none, and holds while it is the larger.)
    """
    last = next(of_kind(reversed(tuple(records)), "raise"), None)
    if last is None or last.body.get("policy", policy.max_epsilon) != policy.max_epsilon:
        return policy.max_epsilon
    return max(policy.max_epsilon, float(last.body["epsilon"]))
