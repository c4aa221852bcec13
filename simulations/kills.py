"""SIGKILL at random moments: `python -m simulations.kills --kills 1000`. Prints what the ledger lost.

A child works through rounds as a hospital does (reserve, compute, seal, release, then send: here, append the sent bytes
to a file) and is killed at a random moment, again and again, on the same folder. Afterwards every reply that was sent
must be on record with the same bytes, nothing may have been sent twice with other bytes, and the budget must hold.
"""

import argparse
import hashlib
import os
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medtl_core.privacy.accounting import epsilon
from medtl_core.privacy.ledger import Identity, Key, Ledger
from medtl_core.privacy.plan import Plan, Step, Terms
from medtl_core.privacy.policy import Policy

#: Enough budget for every round of the test; overspending is tested against this figure all the same.
POLICY = Policy(max_epsilon=1e4, max_releases=10**9)
TERMS = Terms(1e4, 1e-5, hospitals=3, colluders=1, cases=20, width=8, classes=2, secure=False)
PLAN = Plan("private-kills", TERMS, (Step("sums", {"sum": 50.0}, {"sum": 1.0}, 10**9),))


@dataclass(frozen=True)
class Toll:
    """What many kills did.

    Attributes:
        missing: replies that left and are not on record with their bytes.
        twice: rounds of which two different replies left.
        overspent: whether the spent epsilon exceeds the policy's.
    """

    kills: int
    sent: int
    missing: int
    twice: int
    reserved: int
    released: int
    overspent: bool


def work(folder: Path, mailbox: Path) -> None:
    """Works through rounds for ever, beginning with the one after the last that was sent."""
    sent = mailbox.read_text(encoding="ascii").splitlines() if mailbox.is_file() else []
    number = len(sent)
    with Ledger(folder, Identity("north", "f" * 64), POLICY) as ledger, mailbox.open("a", encoding="ascii") as post:
        while True:
            number += 1
            key = Key("run", PLAN.digest, 0, number, "q")
            payload = ledger.sealed(key)
            if payload is None:
                ledger.reserve(key, PLAN, PLAN.steps[0])
                payload = os.urandom(64)  # the noised sum
                ledger.release(key, payload)
            post.write(f"{number} {hashlib.sha256(payload).hexdigest()}\n")
            post.flush()


def kill_many(folder: Path, kills: int, *, rng: np.random.Generator) -> Toll:
    """Kills a working child `kills` times and judges what is left."""
    book, mailbox = folder / "ledger", folder / "sent.txt"
    epsilon([PLAN.steps[0].one], POLICY.delta)  # what it imports, a child need not import again
    longest = 0.06
    for _ in range(kills):
        child = os.fork()
        if not child:
            try:
                work(book, mailbox)
            finally:
                os._exit(1)
        time.sleep(float(rng.uniform(0.0, longest)))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        _cut_half_line(mailbox)
        longest *= 1.0 if mailbox.is_file() and mailbox.stat().st_size else 1.5  # a busy machine is slower to begin
    return judge(book, mailbox, kills)


def judge(book: Path, mailbox: Path, kills: int) -> Toll:
    """Compares what was sent with what is on record."""
    sent: dict[int, set[str]] = {}
    for line in mailbox.read_text(encoding="ascii").splitlines():
        number, digest = line.split()
        sent.setdefault(int(number), set()).add(digest)
    with Ledger(book, Identity("north", "f" * 64), POLICY) as ledger:
        released = {record.body["key"]["number"]: record.body["sha256"] for record in ledger.records
                    if record.body["kind"] == "release"}  # fmt: skip
        reserved = sum(record.body["kind"] == "reserve" for record in ledger.records)
        spent = ledger.spent(POLICY.delta)
    missing = sum(released.get(number) not in digests for number, digests in sent.items())
    twice = sum(len(digests) > 1 for digests in sent.values())
    return Toll(kills, len(sent), missing, twice, reserved, len(released), not spent <= POLICY.max_epsilon)


def _cut_half_line(mailbox: Path) -> None:
    """A line torn in the mailbox itself was not sent whole; the test's own file is not what is tested."""
    if mailbox.is_file():
        content = mailbox.read_bytes()
        mailbox.write_bytes(content[: content.rfind(b"\n") + 1])


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the toll; exits non-zero if the ledger lost anything."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        toll = kill_many(Path(folder), chosen.kills, rng=np.random.default_rng(chosen.seed))
    print(toll)
    return int(bool(toll.missing or toll.twice or toll.overspent))


if __name__ == "__main__":
    sys.exit(main())
