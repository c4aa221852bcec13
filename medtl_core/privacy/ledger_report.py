"""What a person at the hospital asks of its ledgers: show, verify, raise; and what may leave at all."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medtl_core.errors import PrivacyError
from medtl_core.privacy.accounting import epsilon
from medtl_core.privacy.journal import Journal
from medtl_core.privacy.ledger import Identity, Ledger, budget_of, events_of, of_kind
from medtl_core.privacy.policy import Policy, read_policy


@dataclass(frozen=True)
class Balance:
    """One ledger, read and checked.

    Attributes:
        site: whose it is.
        budget, spent: epsilon that may be and that was spent, at the policy's delta.
        reserved, released: how many records of each.
        witness: number and hash of the last record.
        records: everything, in order.
    """

    site: str
    budget: float
    spent: float
    delta: float
    reserved: int
    released: int
    witness: tuple[int, str]
    records: tuple[Mapping[str, Any], ...]


def ledgers(folder: Path) -> Iterator[Path]:
    """Yields every ledger's folder at or below `folder`; there must be one."""
    folders = sorted(path.parent for path in folder.rglob("ledger.jsonl"))
    if not folders:
        raise PrivacyError(f"there is no ledger in {folder}; name a hospital's state-dir, or a run's state folder")
    yield from folders


def balance(folder: Path, policy: Policy | None = None) -> Balance:
    """Returns one ledger's balance, every record checked against the one before.

    Raises:
        PrivacyError: it is damaged, shortened, in use, or no ledger.
    """
    rules = policy or read_policy(folder.parent)
    with Journal(folder) as journal:
        records, witness = journal.records, journal.head
    opened = next(of_kind(records, "open"), None)
    if opened is None:
        raise PrivacyError(f"the ledger in {folder} was never opened by a hospital")
    kinds = [record.body["kind"] for record in records]
    return Balance(
        str(opened.body["site"]), budget_of(records, rules), epsilon(events_of(records), rules.delta), rules.delta,
        kinds.count("reserve"), kinds.count("release"), witness, tuple(record.body for record in records),
    )  # fmt: skip


def raise_budget(folder: Path, to: float, reason: str) -> Balance:
    """Raises a ledger's budget, as only a person at the hospital can, and returns the balance.

    Raises:
        PrivacyError: it is no raise, or the ledger refuses.
    """
    opened = next(body for body in balance(folder).records if body["kind"] == "open")
    identity = Identity(str(opened["site"]), str(opened["fingerprint"]))
    with Ledger(folder, identity, read_policy(folder.parent)) as ledger:
        ledger.raise_budget(to, reason)
    return balance(folder)


@dataclass(frozen=True)
class Outbound:
    """One named value a hospital may send.

    Attributes:
        task: whose answer it is in.
        name: of the array or number.
        what: it is, in words.
        private: whether the gate noised and counted it.
    """

    task: str
    name: str
    what: str
    private: bool


#: Everything that may leave under privacy, and nothing else: tests hold the wire to it.
PRIVATE_OUTBOUND: tuple[Outbound, ...] = (
    Outbound("every reply", "protocol, agreement, site, weight, mechanism, epsilon, delta", "version, hash of agreed "
             "settings, site name, public number of cases, mechanism, epsilon spent, delta", False),
    Outbound("every reply", "witness-ledger, witness-seq, witness-hash", "where the ledger was opened: whose it is, "
             "number and chain hash of its last record", False),
    Outbound("private_mean", "sum, count", "noised sum of patients' rows [k], noised number of patients [1]", True),
    Outbound("private_sums", "sums, gram", "noised class sums [C, k] and packed second moment [k(k+1)/2] of centred "
             "rows of length one", True),
    Outbound("private_statistics", "counts, sums", "noised class counts [C], class sums [C, k]", True),
    Outbound("private_counts", "counts", "noised class counts [C]", True),
    Outbound("private_gradient", "gradient", "noised sum of clipped gradients [C, k], once a round", True),
    Outbound("private_block", "gradient", "noised sum of patients' clipped gradients [D], once a round", True),
    Outbound("secure_keys", "public, identity, least, signature", "fresh public keys with a hash of the own mask's "
             "secret, identity key, the policy's minimum_colluders, signature", False),
    Outbound("secure_shares", "parcels", "sealed shares of mask secrets, one for every hospital", False),
    Outbound("secure_shares", "strangers", "who has another identity than the one exchanged", False),
    Outbound("secure_masked", "masked", "the noised sums under masks, uniform to anyone but the sum", True),
    Outbound("secure_masked", "closed", "whose sealed shares did not open", False),
    Outbound("secure_survivors", "signature", "of the list of hospitals in the sum", False),
    Outbound("secure_unmask", "shares", "shares of survivors' own masks and of drop-outs' pairwise keys", False),
)  # fmt: skip
