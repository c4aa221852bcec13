"""The page that a hospital signs: what was promised and spent, what that rests on, and what it leaves out."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from medtl_core.errors import PrivacyError
from medtl_core.privacy.accounting import most_right
from medtl_core.privacy.hospital_file import is_deployed
from medtl_core.privacy.identity import trusted_peers
from medtl_core.privacy.ledger_report import Balance, LedgerEntry, balance, history, ledgers
from medtl_core.privacy.receipt import SENT, read_receipts
from medtl_core.privacy.requester import now, shown_time
from medtl_core.report.promise import odds_words
from medtl_core.versions import versions

#: What the promise rests on, and what it is not; docs/privacy.md says it at length.
RESTS_ON = (
    "The hospital's own computer, its disk and the medtl installed there are sound.",
    "Every patient has one identifier in the hospital's data; who has two is protected less.",
    "Public, and not protected: that the hospital takes part, its name, its public number of patients, the settings.",
    "In secure sums: identity keys were exchanged by another way than the server, and no more hospitals than the "
    "policy's minimum_colluders pool what they know with it.",
)
LEAVES_OUT = (
    "Answers without privacy: they are not in this ledger, and nothing is promised for them.",
    "A patient who is also in another hospital's data, or in another folder of this one: what both spent adds up.",
    "What is true of the whole hospital, such as how common a disease is there; which hospital a case is from.",
    "Time and memory as side channels, and whoever can enter the hospital's machine.",
    "Neither the code nor its proofs were reviewed by anyone outside the project, and no authority has approved them.",
)


@dataclass(frozen=True)
class PrivacyStatement:
    """What stands on the page, in its order.

    Attributes:
        account: the ledger.
        promise: in words.
        numbers: heading -> value.
        entries: of the ledger.
        hospitals: that take part in secure sums, this one first.
        printed: when.
    """

    account: Balance
    promise: str
    numbers: dict[str, str]
    entries: tuple[LedgerEntry, ...]
    hospitals: tuple[str, ...]
    printed: str


def made(folder: Path, code: str) -> PrivacyStatement:
    """Returns the statement of the one ledger at or below a folder.

    Raises:
        PrivacyError: there is none, there are several, or it is damaged.
    """
    place, *others = ledgers(folder)
    if others:
        raise PrivacyError(f"{folder} holds {1 + len(others)} ledgers; name the folder of one hospital")
    account, entries, home = balance(place), history(place), place.resolve().parent
    dates = [shown_time(entry.at) for entry in entries if entry.at]
    versioned, printed = versions(), shown_time(now())
    open_replies = _open_replies(home)
    numbers = {
        "Epsilon that may be spent on a patient, by all runs and for ever": f"{account.budget:.4g}",
        "Epsilon spent until now": f"{account.spent:.4g}",
        "Epsilon left": f"{max(account.budget - account.spent, 0.0):.4g}",
        "Delta, the chance with which the bound may fail": f"{account.delta:g}",
        "Private answers that left": f"{account.released}",
        "Answers that left without privacy, and for which nothing is promised": open_replies,
        "First and last record": f"{dates[0]}; {dates[-1]}" if dates else "none with a date",
        "Last record of the ledger": f"{account.witness[0]}, {account.witness[1][:32]}",
        "Software": f"medtl {versioned.get('medtl', '')}, Python {versioned['python']}",
        "SHA-256 of its code": code,
    }
    peers = (trusted_peers(home) or {}) if is_deployed(home) else {}
    return PrivacyStatement(account, _promise(account), numbers, entries, (account.site, *sorted(peers)), printed)


def _open_replies(home: Path) -> str:
    """How many plain answers the receipts know of; a simulated hospital has none."""
    if not (home / SENT).is_dir():
        return "0, by its receipts" if is_deployed(home) else "not known: it keeps no receipts"
    kept = read_receipts(home).records
    return f"{sum(record.body['kind'] == 'reply' and record.body['event'] is None for record in kept)}, by its receipts"


def _promise(account: Balance) -> str:
    if not account.spent:
        return (
            f"Until now nothing was released about the patients of {account.site} under this ledger. It allows epsilon "
            f"{account.budget:.4g} at delta {account.delta:g}."
        )
    right = most_right(account.spent, account.delta)
    return (
        f"Everything that {account.site} has sent under this ledger is (epsilon, delta)-differentially private for "
        f"each patient with all their cases, with epsilon = {account.spent:.4g} and delta = {account.delta:g}: whoever "
        f"has all of it, and knows everything else, can make the odds that a given patient is among the cases at most "
        f"{odds_words(account.spent)} times larger or smaller. Who guesses at even odds whether a patient is in is "
        f"right at most {100 * right:.1f} times in 100, where 50 is chance."
    )


def statement_page(folder: Path, code: str) -> str:
    """Returns the statement as one page of HTML, without a script and without anything to fetch; see `made`."""
    from medtl_core.report.template import render

    said = made(folder, code)
    title = f"Privacy statement of {said.account.site}"
    told = {"title": title, "said": said, "rests_on": RESTS_ON, "leaves_out": LEAVES_OUT}
    return render("medtl_core.report", "statement.html", **told)


def statement_text(folder: Path, code: str, wrapped: Callable[[str, int], list[str]]) -> Iterator[str]:
    """Yields the same as lines for a terminal, which `wrapped` folds; see `made`."""
    said = made(folder, code)
    yield from wrapped(f"Privacy statement of {said.account.site}, {said.printed}", 0)
    yield ""
    yield from wrapped(said.promise, 0)
    yield ""
    for name, value in said.numbers.items():
        yield from wrapped(f"{name}: {value}", 4)
    yield from wrapped(f"Hospitals whose keys are known here: {', '.join(said.hospitals)}", 4)
    for heading, lines in (("It rests on", RESTS_ON), ("It does not promise", LEAVES_OUT)):
        yield from ("", f"{heading}:")
        for line in lines:
            yield from wrapped(f"- {line}", 2)
    yield from ("", "Research software, not a medical device.", "", "Place, date, name and signature:", "")
    yield "." * 60
