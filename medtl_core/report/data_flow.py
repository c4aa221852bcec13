"""The data-flow sheet of one hospital: what is read, computed, sent, to whom, under which rules, and kept where.

Of a deployed hospital it is made from its own folder, of a simulated one from its run. What neither knows is a blank
that names who fills it in. It is read by people and decides nothing.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from medtl_core.errors import RunError, did_you_mean
from medtl_core.evaluation.result import Result, RoundTrip
from medtl_core.privacy.hospital import Hospital, read_hospital
from medtl_core.privacy.ledger_report import balance
from medtl_core.privacy.outbound import DEFAULT_OUTBOUND, LABEL_OUTBOUND, PRIVATE_OUTBOUND, said_of
from medtl_core.privacy.policy import Policy
from medtl_core.privacy.receipt import SENT, Receipts, read_receipts
from medtl_core.privacy.requester import asked_by, now, shown_time
from medtl_core.report import numerals
from medtl_core.report.folder import read_results
from medtl_core.report.promise import promise_lines
from medtl_core.report.template import render
from medtl_core.store import read_json

#: Who fills in what no program knows.
_HERE, _OFFICER, _LEADS = "the hospital", "the data-protection officer", "whoever leads the study"
_NEVER = "images, rows, texts; sums of few cases without noise tell features of single ones all the same"
_NOTHING = "nothing is promised about it"


@dataclass(frozen=True)
class FlowItem:
    """A line of the sheet: what it is about, and what is known, or else who fills it in."""

    name: str
    value: str = ""
    blank: str = ""


#: Of every hospital: what is computed of its cases.
_COMPUTED = (
    FlowItem("Of each case", "features, by a frozen network or fixed formulas; they stay here"),
    FlowItem("Of all cases together", "what the answers below hold"),
)


@dataclass(frozen=True)
class FlowPart:
    """A section: lines, and maybe a table below them with its headings first."""

    heading: str
    items: tuple[FlowItem, ...]
    table: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True)
class FlowSheet:
    """The whole page: whose it is, when and from what it was made, and its sections in order."""

    site: str
    made: str
    parts: tuple[FlowPart, ...]

    @property
    def page(self) -> str:
        """As HTML to print, without a script and without anything to fetch."""
        return render("medtl_core.report", "data_flow.html", sheet=self, title=f"Data flow of {self.site}")


def sheet_of_hospital(folder: Path) -> FlowSheet:
    """Returns the sheet of a deployed hospital, of all it has ever sent; no case is opened.

    Raises:
        ConfigError: it is no hospital's folder, or its file cannot be used.
        PrivacyError: rules, ledger or receipts are damaged.
    """
    hospital = read_hospital(folder)
    sent = read_receipts(folder) if any((folder / SENT).glob("*.jsonl")) else Receipts((), 0)
    bodies = [dict(record.body) for record in sent.records]
    counted = f"receipts {sent.records[0].seq} to {sent.records[-1].seq}" if bodies else "no receipts: nothing was sent"
    made = f"Made {shown_time(now())} from the hospital's own folder ({counted})."
    parts = (
        _read_part([FlowItem("Where they lie", hospital.data), FlowItem("Computed on", hospital.device)], _HERE),
        FlowPart("What is computed here", (*_COMPUTED,)),
        _sent_part(bodies),
        _receivers(hospital, bodies),
        FlowPart("Under which rules", (_rules(hospital.policy),)),
        FlowPart("Privacy", (*_spent(hospital),)),
        FlowPart("What is kept, where, and how long", (*_kept(hospital),)),
        _law(),
    )
    return FlowSheet(hospital.name, made, parts)


def sheet_of_run(folder: Path, site: str) -> FlowSheet:
    """Returns the sheet of one hospital of a simulated run.

    Raises:
        RunError: the folder holds no results, or no such hospital took part.
    """
    results = sorted(read_results(folder), key=lambda result: result.seed)
    first = results[0]
    if site not in first.sites:
        raise RunError(f"{site!r} gave no case to this run; {did_you_mean(site, first.sites)}")
    begun = read_json(folder / "config.json").get("begun", "") if (folder / "config.json").is_file() else ""
    privacy = first.settings.get("privacy", "none")
    promised = promise_lines(results, folder) or (_NOTHING,)
    read = [
        FlowItem("Cases", f"{first.data.title} ({first.data.name}), licence {first.data.licence or 'not stated'}"),
        FlowItem("Training cases of this hospital", f"{first.sites[site]}"),
    ]
    frozen = f"features by {first.settings['backbone']}, which is frozen: {first.width} numbers; they stay here"
    receiver = FlowItem("Receiver", "the server of this simulation, on the same machine: nothing left it")
    promise = [FlowItem("" if place else "Promise", line) for place, line in enumerate(promised)]
    kept = FlowItem("Run folder", "results, heads, report: until a person deletes it")
    parts = (
        _read_part(read, _HERE),
        FlowPart("What is computed here", (FlowItem("Of each case", frozen), _methods(first))),
        _exchanged_part(first, len(first.sites)),
        FlowPart("To whom", (receiver, FlowItem("In a real federation", blank=_LEADS))),
        FlowPart("Under which rules", (FlowItem("Setting privacy", str(privacy)), FlowItem("Own rules", blank=_HERE))),
        FlowPart("Privacy", tuple(promise)),
        FlowPart("What is kept, where, and how long", (kept, FlowItem("In a real federation", blank=_OFFICER))),
        _law(),
    )
    return FlowSheet(site, f"Made from a simulated run{f', begun {begun}' if begun else ''}.", parts)


def _read_part(known: Sequence[FlowItem], who: str) -> FlowPart:
    blanks = ("Which patients, of which years and wards", "What the images, rows or texts show; how they were labelled")
    return FlowPart("Which data are read", (*known, *(FlowItem(name, blank=who) for name in blanks)))


def _methods(result: Result) -> FlowItem:
    return FlowItem("Of all cases together", f"what these methods ask for: {', '.join(result.methods)}")


def _sent_part(bodies: Sequence[Mapping[str, Any]]) -> FlowPart:
    """What left the building, by kind of answer; of each what could be learnt from it."""
    replies = [body for body in bodies if body["kind"] == "reply"]
    rows = [("answer", "times", "numbers", "size", "noise", "what could be learnt about a patient")]
    for task in dict.fromkeys(body["task"] for body in replies):
        same = [body for body in replies if body["task"] == task]
        names = {name for body in same for name in body["arrays"]}
        numbers, size = (sum(body[name] for body in same) for name in ("numbers", "bytes"))
        noised = {body["event"][0] if body["event"] else "none" for body in same}
        how = "yes, in a secure sum" if all(body["secure"] for body in same) else "yes"
        how = "no" if noised & {"none", "public", "mask"} else how
        told = (said_of(task, names), f"{len(same)}", f"{numbers}", numerals.size(size), how, _learnt(task, names))
        rows.append(told)
    refused = sum(body["kind"] == "refusal" for body in bodies)
    total = f"{len(replies)} answers, {numerals.size(sum(body['bytes'] for body in replies))}; {refused} refusals"
    items = (FlowItem("In all", total), FlowItem("Not sent", _NEVER))
    return FlowPart("What left the building", items, tuple(rows) if replies else ())


def _exchanged_part(result: Result, hospitals: int) -> FlowPart:
    rows = [("answer", "times", "sent by a hospital, on average")]
    for phase in dict.fromkeys(exchange.phase for exchange in result.exchanges):
        own: list[RoundTrip] = [exchange for exchange in result.exchanges if exchange.phase == phase]
        rows.append((phase, f"{len(own)}", numerals.size(sum(one.bytes_up for one in own) / hospitals)))
    items = (FlowItem("Not sent", _NEVER),)
    return FlowPart("What would leave the building", items, tuple(rows))


def _learnt(task: str, names: set[str]) -> str:
    if task == "join":
        return "nothing"
    known = [row for row in (*PRIVATE_OUTBOUND, *DEFAULT_OUTBOUND, *LABEL_OUTBOUND) if row.task == task]
    fitting = [row for row in known if names & {*row.name.split(", ")}] or known
    return "; ".join(dict.fromkeys(row.learnt for row in fitting)) or "not described: see medtl site sent"


def _receivers(hospital: Hospital, bodies: Sequence[Mapping[str, Any]]) -> FlowPart:
    server = hospital.server
    way = "encrypted (TLS), its certificate checked" if server.certificate else "encrypted by what the system trusts"
    way = "not encrypted: a server on this machine" if server.insecure else way
    rows = [("asked by", "first and last answer")]
    for run in dict.fromkeys(body["asked"]["run"] for body in bodies):
        same = [body for body in bodies if body["asked"]["run"] == run]
        who = asked_by(same[0]["asked"]) or "a run without a number"
        rows.append((who, f"{shown_time(same[0]['at'])} to {shown_time(same[-1]['at'])}"))
    items = (
        FlowItem("Receiver", server.address, "" if server.address else _HERE),
        FlowItem("On the way", way if server.address else "not connected yet"),
        FlowItem("Hospitals whose keys are known here", ", ".join(sorted(hospital.peers)) or "none"),
        FlowItem("Who runs the receiver, in which country, under which contract", blank=_OFFICER),
        FlowItem("Who gets the trained head, and what it is for", blank=_LEADS),
    )
    return FlowPart("To whom", items, tuple(rows) if bodies else ())


def _rules(policy: Policy) -> FlowItem:
    told = {field.name: getattr(policy, field.name) for field in fields(policy)}
    words = {name: "every one" if value == () else _in_words(value) for name, value in told.items()}
    return FlowItem("[policy] of hospital.toml", "; ".join(f"{name} = {value}" for name, value in words.items()))


def _in_words(value: Any) -> str:
    if isinstance(value, tuple):
        return ", ".join(value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _spent(hospital: Hospital) -> Iterator[FlowItem]:
    account = balance(hospital.ledger)
    left = max(account.budget - account.spent, 0.0)
    yield FlowItem("Epsilon spent on every patient", f"{account.spent:.4g} of {account.budget:.4g}; {left:.4g} is left")
    yield FlowItem("Delta", f"{account.delta:g}")
    yield FlowItem(
        "Answers without noise", "nothing is promised about them; medtl ledger statement says what is about the others"
    )


def _kept(hospital: Hospital) -> Iterator[FlowItem]:
    yield FlowItem("Cases", f"{hospital.data}: read, never changed or copied")
    where = "nowhere" if hospital.cache == "off" else f"{hospital.cache}: until a person deletes it"
    yield FlowItem("Features of single cases", where)
    yield FlowItem("Ledger", f"{hospital.ledger}: for ever; without it no private run is answered")
    yield FlowItem("Receipts", f"{hospital.folder / SENT}: until a person moves old files away")
    yield FlowItem("Keys, own heads", f"{hospital.folder}: until a person deletes them")
    yield FlowItem("What the receiver keeps of it: sums, heads, results; and how long", blank=_LEADS)
    yield FlowItem("How long each may be kept by the hospital's own rules, and its backups", blank=_OFFICER)


def _law() -> FlowPart:
    names = {
        "Legal basis, ethics approval, consent": _OFFICER,
        "Assessment of the consequences for data protection": _OFFICER,
        "What patients were told, and how one objects": _HERE,
        "Who answers for this sheet, and when it is looked at again": _HERE,
    }
    return FlowPart("What no program knows", tuple(FlowItem(name, blank=who) for name, who in names.items()))
