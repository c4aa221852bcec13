"""A few of the thousand kills of `python -m simulations.kills`."""

from pathlib import Path

import numpy as np

from simulations.kills import judge, kill_many


def test_killed_at_random_nothing_sent_is_missing_from_the_ledger(tmp_path: Path) -> None:
    toll = kill_many(tmp_path, 60, rng=np.random.default_rng(5))
    assert toll.sent > 5
    assert toll.reserved >= toll.released >= toll.sent
    assert (toll.missing, toll.twice, toll.overspent) == (0, 0, False)


def test_the_judge_notices_a_reply_that_is_not_on_record(tmp_path: Path) -> None:
    kill_many(tmp_path, 10, rng=np.random.default_rng(6))
    mailbox = tmp_path / "sent.txt"
    with mailbox.open("a") as post:
        post.write(f"9999 {'0' * 64}\n1 {'1' * 64}\n")
    toll = judge(tmp_path / "ledger", mailbox, 10)
    assert toll.missing == 1
    assert toll.twice == 1
