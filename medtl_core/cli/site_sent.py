"""`medtl site outbound`, `sent` and `flow`: what may leave a hospital, what really left it, and a sheet of both."""

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from medtl_core.cli import console
from medtl_core.errors import PrivacyError, RunError
from medtl_core.privacy.outbound import DEFAULT_OUTBOUND, LABEL_OUTBOUND, PRIVATE_OUTBOUND, Outbound, said_of
from medtl_core.privacy.receipt import SENT, read_receipts
from medtl_core.privacy.requester import asked_by, shown_time

_WIDTH = 80
#: Above what leaves where nothing private is asked.
_PLAIN = (
    "Without privacy (privacy=none), by the default method; a hospital whose policy says require_private = true sends "
    "none of it. Other methods send other sums, or weights; `medtl site sent DIR` lists what really left:"
)


def outbound() -> None:
    """List everything a hospital may send, privately and not, and what could be learnt from it about a patient."""
    console.show("Under privacy, and nothing else:", "", *_rows(PRIVATE_OUTBOUND))
    console.show(*_wrapped(_PLAIN, 0), "", *_rows(DEFAULT_OUTBOUND))
    console.show("The same of a task of several findings a case:", "", *_rows(LABEL_OUTBOUND))


def _rows(rows: Sequence[Outbound]) -> Iterator[str]:
    for row in rows:
        paid = "noised, and paid for by the ledger" if row.private else "not noised"
        yield from _wrapped(f"{row.task}: {row.name}", 0)
        for heading, words in (("what it is", row.what), ("what could be learnt about a patient", row.learnt)):
            yield from _wrapped(f"{heading}: {words}")
        yield from _wrapped(paid)
        yield ""


def _wrapped(text: str, indent: int = 4) -> list[str]:
    harmless = "".join(sign for sign in text if sign.isprintable())
    margin = " " * indent
    return textwrap.wrap(
        harmless, _WIDTH, initial_indent=margin, subsequent_indent=f"{margin}  ", break_on_hyphens=False
    )


def sent(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The hospital's own folder.")],
    run: Annotated[str, typer.Argument(metavar="[RUN]", help="A run's number; none = all runs.")] = "",
    as_json: console.AsJson = False,
) -> None:
    """Show what a hospital has really sent, from its own signed receipts; a damaged one is an error (exit code 1)."""
    receipts = read_receipts(folder)
    bodies = [dict(record.body) for record in receipts.records]
    chosen = [body for body in bodies if run in ("", body["asked"]["run"])]
    if not chosen:
        known = ", ".join(dict.fromkeys(body["asked"]["run"] for body in bodies))
        raise PrivacyError(f"{folder} has sent nothing to run {run}; it has receipts of {known}")
    if as_json:
        console.show_json(chosen)
        return
    first, last = receipts.records[0], receipts.records[-1]
    late = f"; {last.seq - receipts.signed} later, not signed yet" if last.seq > receipts.signed else ""
    before = f"; the {first.seq - 1} before it lie elsewhere" if first.seq > 1 else ""
    console.show(*_wrapped(
        f"whole: {folder / SENT}: receipts {first.seq} to {last.seq}, signed by the hospital's key{late}{before}", 0
    ))  # fmt: skip
    runs = dict.fromkeys(body["asked"]["run"] for body in chosen)
    for name in runs:
        console.show("", *_run([body for body in chosen if body["asked"]["run"] == name], whole=bool(run)))


def flow(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The hospital's own folder, or that of a run.")],
    out: Annotated[Path, typer.Option(metavar="FILE", help="New file: one page of HTML to print.")],
    hospital: Annotated[str | None, typer.Option(metavar="NAME", help="Of a run's folder: which hospital.")] = None,
) -> None:
    """Write a hospital's data-flow sheet: what is read, computed, sent, to whom, under which rules, and kept where.

    What no program knows is a blank that names who fills it in. No case is opened for it.
    """
    from medtl_core.report.data_flow import sheet_of_hospital, sheet_of_run

    page = (sheet_of_hospital(folder) if hospital is None else sheet_of_run(folder, hospital)).page
    try:
        with out.open("x", encoding="utf-8") as file:
            file.write(page)
    except FileExistsError:
        raise RunError(f"{out} exists already; choose another name with --out") from None
    typer.echo(f"data flow  {out}")


def _run(bodies: Sequence[Mapping[str, Any]], *, whole: bool) -> Iterator[str]:
    """A run in words: what left in all, and phase by phase."""
    replies = [body for body in bodies if body["kind"] == "reply"]
    asked = asked_by(next((body["asked"] for body in bodies), None)) or "a run without a number"
    yield from _wrapped(f"{asked}: {shown_time(bodies[0]['at'])} to {shown_time(bodies[-1]['at'])}", 0)
    costs = [body["event"] for body in replies if body["event"]]
    plain = sum(body["event"] is None for body in replies)
    spent = max((cost[1] for cost in costs), default=0.0)
    sums = f"{len(replies)} replies, {_total(replies, 'numbers')} numbers, {_total(replies, 'bytes')} bytes"
    yield from _wrapped(f"{sums}; {len(bodies) - len(replies)} refusals")
    if costs:
        yield from _wrapped(f"private: the ledger stood at epsilon {spent:.4g} after it")
    if plain:
        yield from _wrapped(f"NOT private: {plain} replies promised nothing")
    for task in dict.fromkeys(body["task"] for body in replies) if whole or len(replies) < 100 else ():
        same = [body for body in replies if body["task"] == task]
        yield from _phase(task, same)
    for told in dict.fromkeys(body["told"] for body in bodies if body["kind"] == "refusal"):
        yield from _wrapped(f"refused {sum(body.get('told') == told for body in bodies)} times: {told}")


def _phase(task: str, same: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """One kind of answer: what, how many numbers and bytes, with noise or without, in a secure sum or not."""
    names = {name for body in same for name in body["arrays"]}
    event, secure = same[0]["event"], same[0]["secure"]
    if event is None:
        how = "no noise; nothing is promised"
    elif event[0] in ("public", "mask"):
        how = "no noise: it is about no patient"
    else:
        how = f"noised ({event[0]}), paid for by the ledger"
    how += "; under a secure sum" if secure else ""
    size = f"{len(same)} times, {_total(same, 'numbers')} numbers, {_total(same, 'bytes')} bytes"
    yield from _wrapped(f"{task}: {said_of(task, names)}; {size}; {how}", 2)
    yield from _wrapped(f"SHA-256 of the last: {same[-1]['sha256']}", 4)


def _total(bodies: Sequence[Mapping[str, Any]], name: str) -> int:
    return sum(body[name] for body in bodies)
