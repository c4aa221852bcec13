"""What a person at the hospital asks of its ledgers: show, verify, raise."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medtl_core.errors import PrivacyError
from medtl_core.privacy.accounting import epsilon
from medtl_core.privacy.hospital_file import HOSPITAL, is_deployed, read_toml
from medtl_core.privacy.journal import GENESIS, HEAD, LINES, VERSION, Journal, Record, read_journal
from medtl_core.privacy.ledger import LEDGER, budget_of, events_of, of_kind
from medtl_core.privacy.outbound import said_of
from medtl_core.privacy.policy import Policy, read_policy
from medtl_core.privacy.requester import asked_by, now


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


@dataclass(frozen=True)
class LedgerEntry:
    """One record of a ledger for people.

    Attributes:
        number: from 1.
        at: when it was written, UTC; "" = an older medtl did not say.
        asked: who asked, in words, "" where nobody did or it is not known.
        mechanism: that was paid for, "" where there is none.
        what: happened.
        left: epsilon that could be spent after it.
    """

    number: int
    at: str
    asked: str
    mechanism: str
    what: str
    left: float


def history(folder: Path, newest: int = 0) -> tuple[LedgerEntry, ...]:
    """Returns every record of one ledger in words, or the newest; see `balance`."""
    records = read_journal(folder)
    policy, entries = policy_of(folder, records), []
    plans = {record.body["digest"]: record.body for record in of_kind(records, "plan")}
    for number, record in [*enumerate(records, start=1)][-newest:]:
        body, until = record.body, records[:number]
        planned = plans.get(body["digest"] if body["kind"] == "plan" else body.get("key", {}).get("plan"), {})
        left = max(budget_of(until, policy) - epsilon(events_of(until), policy.delta), 0.0)
        asked, at = asked_by(body.get("asked")), str(body.get("at", ""))
        entries.append(LedgerEntry(number, at, asked, planned.get("mechanism", ""), _happened(body, planned), left))
    return tuple(entries)


def _happened(body: Mapping[str, Any], planned: Mapping[str, Any]) -> str:
    match body["kind"]:
        case "open":
            return f"opened for the patients of {body['site']}; unit: {body['unit']}; neighbours: {body['adjacency']}"
        case "plan":
            terms, releases = body["terms"], sum(step["count"] for step in body["steps"])
            summed = "in a secure sum" if terms["secure"] else "each by itself"
            return (
                f"{body['mechanism']} planned: {releases} release(s) for epsilon {terms['epsilon']:.4g}, delta "
                f"{terms['delta']:g}; {terms['hospitals']} hospitals, {summed}; nothing was spent by that"
            )
        case "reserve" | "release" as kind:
            key = body["key"]
            what = said_of(planned["steps"][key["step"]]["task"]) if planned else "a release"
            done = "paid for" if kind == "reserve" else f"released ({body['bytes']} bytes)"
            return f"{done}, round {key['number']}: {what}"
        case "raise":
            return f"a person here raised what may be spent to {body['epsilon']:.4g}: {body['reason']}"
    return str(body.get("text", body["kind"]))


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
    rules = policy or policy_of(folder, records)
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
        policy = policy_of(place, journal.records)
        budget = budget_of(journal.records, policy)
        if not budget < to < float("inf") or not reason.strip():
            raise PrivacyError(f"a raise must exceed the budget of {budget:.4g} and give a reason")
        said = {"epsilon": float(to), "reason": reason.strip(), "policy": policy.max_epsilon}
        journal.append({"kind": "raise", **said, "version": VERSION, "at": now()})
    return balance(place)


def _name_of(home: Path) -> str:
    """What a hospital calls itself, or its folder is called."""
    return str(read_toml(home / HOSPITAL, PrivacyError).get("name")) if is_deployed(home) else home.name


def policy_of(folder: Path, records: Iterable[Record]) -> Policy:
    """The rules that hold for a ledger: those its hospital wrote, or else what a simulated one promised last."""
    home = folder.resolve().parent
    if folder.resolve().name == LEDGER:
        return read_policy(home)
    terms = [record.body["terms"] for record in of_kind(records, "plan")][-1:]
    return read_policy(home.parent, *(Policy(max_epsilon=last["epsilon"], delta=last["delta"]) for last in terms))
