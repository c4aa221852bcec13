"""A few of the thousand kills of `python -m simulations.kills`."""

from pathlib import Path

import numpy as np
import pytest

from simulations.kills import Toll, judge, kill_many

KILLS = 30


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Toll]:
    folder = tmp_path_factory.mktemp("kills")
    return folder, kill_many(folder, KILLS, rng=np.random.default_rng(5))


@pytest.mark.slow
def test_killed_at_random_nothing_sent_is_missing_from_the_ledger(killed: tuple[Path, Toll]) -> None:
    _, toll = killed
    assert toll.sent > 5
    assert toll.reserved >= toll.released >= toll.sent
    assert (toll.missing, toll.twice, toll.overspent) == (0, 0, False)


@pytest.mark.slow
def test_the_judge_notices_a_reply_that_is_not_on_record(killed: tuple[Path, Toll]) -> None:
    mailbox = killed[0] / "sent.txt"
    with mailbox.open("a") as post:
        post.write(f"9999 {'0' * 64}\n1 {'1' * 64}\n")
    toll = judge(killed[0] / "ledger", mailbox, KILLS)
    assert (toll.missing, toll.twice) == (1, 1)
