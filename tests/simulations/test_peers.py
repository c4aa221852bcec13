"""The peers' job: medtl and the plain loop end with the same head, and what is printed fails when it must."""

from pathlib import Path

import numpy as np
import pytest

from simulations.peer_loops import plain, read_job
from simulations.peers import TOLERANCE, Spent, run_medtl, table, write_job


@pytest.mark.slow  # reads torchvision
def test_medtl_and_the_plain_loop_end_with_the_same_head(tmp_path: Path) -> None:
    write_job(tmp_path, 2, 20, 2)
    weight, bias = plain(str(tmp_path))
    run_medtl(tmp_path)
    with np.load(tmp_path / "medtl.npz") as head:
        scale = float(weight.abs().max())
        assert scale > 0
        np.testing.assert_allclose(head["weight"], weight.numpy(), atol=TOLERANCE * scale)
        np.testing.assert_allclose(head["bias"], bias.numpy(), atol=TOLERANCE * scale)
    first, second = read_job(str(tmp_path))["orders"][:, 0]
    assert sorted(first) == sorted(second) == list(range(20)) and (first != second).any()


@pytest.mark.parametrize(
    ("medtl", "missed"),
    [((5.5, 1e-5), 0), ((5.9, 1e-5), 1), ((6.2, 1e-5), 2), ((5.0, 2e-3), 1)],
)
def test_a_limit_or_a_head_that_is_missed_is_counted(medtl: tuple[float, float], missed: int) -> None:
    spent = {"plain": Spent(5.0, 6.0, 700.0, 0.0), "pfl": Spent(6.0, 7.0, 800.0, 1e-6)}
    text, count = table({**spent, "medtl": Spent(medtl[0], 7.0, 750.0, medtl[1])})
    assert count == missed == sum(line.startswith("missed:") for line in text.splitlines())
    assert f"CPU of medtl / plain: {medtl[0] / 5:.3f}" in text
