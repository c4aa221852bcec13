"""What a person at the hospital asks of its ledgers: show, verify, raise; and what may leave at all."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medtl_core.errors import PrivacyError
from medtl_core.privacy.accounting import epsilon
from medtl_core.privacy.asker import now
from medtl_core.privacy.hospital_file import HOSPITAL, is_deployed, read_toml
from medtl_core.privacy.journal import GENESIS, HEAD, LINES, VERSION, Journal, Record, read_journal
from medtl_core.privacy.ledger import LEDGER, budget_of, events_of, of_kind
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


def ledgers(folder: Path) -> tuple[Path, ...]:
    """Returns the folder of every ledger at or below `folder`; nothing is made or changed there.

    Raises:
        PrivacyError: there is none.
    """
    files = (*folder.rglob(LINES), *folder.rglob(HEAD))
    folders = {path.parent for path in files if path.is_file() and path.stat().st_size}
    if not folders:
        raise PrivacyError(f"there is no ledger in {folder}; name a hospital's folder, or a run's state folder")
    return tuple(sorted(folders))


def balance(folder: Path, policy: Policy | None = None) -> Balance:
    """Returns one ledger's balance, every record checked against the one before; nothing is made or changed there.

    Raises:
        PrivacyError: it is damaged, shortened, or no ledger.
    """
    records = read_journal(folder)
    rules = policy or _policy_of(folder, records)
    opened = next(of_kind(records, "open"), None)
    kinds = [record.body["kind"] for record in records]
    return Balance(
        str(opened.body["site"]) if opened else _name_of(folder.resolve().parent), budget_of(records, rules),
        epsilon(events_of(records), rules.delta), rules.delta, kinds.count("reserve"), kinds.count("release"),
        (records[-1].seq, records[-1].hash) if records else (0, GENESIS), tuple(record.body for record in records),
    )  # fmt: skip


def raise_budget(folder: Path, to: float, reason: str) -> Balance:
    """Raises the budget of the one ledger at or below `folder`, as only a person at the hospital can.

    Returns:
        The balance after it.

    Raises:
        PrivacyError: there are several ledgers or none, it is no raise, or the ledger is in use or damaged.
    """
    place, *others = ledgers(folder)
    if others:
        raise PrivacyError(f"{folder} holds {1 + len(others)} ledgers; name the folder of one hospital")
    with Journal(place) as journal:
        policy = _policy_of(place, journal.records)
        budget = budget_of(journal.records, policy)
        if not budget < to < float("inf") or not reason.strip():
            raise PrivacyError(f"a raise must exceed the budget of {budget:.4g} and give a reason")
        said = {"epsilon": float(to), "reason": reason.strip(), "policy": policy.max_epsilon}
        journal.append({"kind": "raise", **said, "version": VERSION, "at": now()})
    return balance(place)


def _name_of(home: Path) -> str:
    """What a hospital calls itself, or its folder is called."""
    return str(read_toml(home / HOSPITAL, PrivacyError).get("name")) if is_deployed(home) else home.name


def _policy_of(folder: Path, records: Iterable[Record]) -> Policy:
    """The rules that hold for a ledger: those its hospital wrote, or else what a simulated one promised last."""
    home = folder.resolve().parent
    if folder.resolve().name == LEDGER:
        return read_policy(home)
    terms = [record.body["terms"] for record in of_kind(records, "plan")][-1:]
    return read_policy(home.parent, *(Policy(max_epsilon=last["epsilon"], delta=last["delta"]) for last in terms))


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


#: What the default method, `auto`, sends without privacy, of F folds; tests hold it to that.
#: A fold's root has the Gram matrix of its cases, and so tells what the matrix tells, in fewer numbers.
DEFAULT_OUTBOUND: tuple[Outbound, ...] = (
    Outbound("statistics", "counts, labels, rows", "of no more cases than features: class counts [F, C], and of each "
             "fold's cases the root: rows [n, d + 1], labels [n, C]", False),
    Outbound("statistics", "counts, sums, gram", "of more cases: class counts [F, C], class sums [F, C, d], Gram "
             "matrices, packed [F, d(d+1)/2]", False),
    Outbound("logistic_gradient", "cases, rows", "of no more cases than features, five times: cases [F], slopes in "
             "the rows of the roots, n numbers a class and head", False),
    Outbound("logistic_gradient", "cases, gradient", "of more cases, five times: cases [F], gradients [C, d + 1] of "
             "every head", False),
    Outbound("validate", "losses, hits", "of the folds' heads on the cases left out: losses, right answers by class",
             False),
    Outbound("compare", "losses, squares", "of candidates on the cases left out: losses, and squares of patients' "
             "differences, by class", False),
)  # fmt: skip

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
