"""Ditto: the federated head is FedAvg's to the byte, and the personal one solves the pulled problem."""

from pathlib import Path

import numpy as np
import pytest

from medtl_core.config import Settings
from medtl_core.errors import ConfigError
from medtl_core.federation.registry import find_method
from medtl_core.heads.linear import Training, train, with_bias
from medtl_core.methods.personal.ditto import PULL, Ditto, towards
from tests.memory import make_site
from tests.methods.personal_sites import last_asked, state_bytes, study


def test_the_federated_head_is_fedavgs_to_the_byte(tmp_path: Path) -> None:
    made = study(tmp_path, "fedavg-3,ditto-3", Settings(test="sites"))
    made.outcome(made.methods[1])
    last = last_asked(made, "ditto_finish")
    np.testing.assert_array_equal(last.arrays["head"], made.course("fedavg").heads[3][0].astype(np.float32))


def test_the_pull_is_the_gradient_of_half_its_square() -> None:
    rng = np.random.default_rng(0)
    site = make_site("a", 8)
    inputs = with_bias(site.values, np.zeros(6), np.ones(6))
    head, centre = rng.standard_normal((2, 3, 7)) / 10
    training, constant = towards(centre, 0.4, Training(1, 8, 0.01, 0.05))
    moved = train(head[None], inputs, site.label, training, rng=rng, control=constant[None])[0]
    free = train(head[None], inputs, site.label, Training(1, 8, 0.01, 0.05), rng=rng)[0]
    np.testing.assert_allclose(moved, free - 0.01 * 0.4 * (head - centre), atol=1e-12)


def test_a_strong_pull_holds_the_personal_head_at_the_federated_one(tmp_path: Path) -> None:
    from safetensors.numpy import load_file

    distances = []
    for pull in ("0.1", "1", "10"):
        made = study(tmp_path / pull, f"ditto-5@{pull}")
        made.outcome(*made.methods)
        last = last_asked(made, "ditto_finish")
        kept = load_file(tmp_path / pull / "a" / f"ditto-5@{pull}.round-5.safetensors")["head"]
        distances.append(float(np.linalg.norm(kept - last.arrays["head"])))
    assert distances[0] > distances[1] > distances[2]


def test_the_personal_head_never_moves_the_federated_one(tmp_path: Path) -> None:
    sent = []
    for pull in ("0.1", "1"):
        made = study(tmp_path / pull, f"ditto-3@{pull}")
        made.outcome(*made.methods)
        last = last_asked(made, "ditto_finish")
        sent.append(last.arrays["head"].tobytes())
    assert sent[0] == sent[1]
    assert state_bytes(tmp_path / "0.1").keys() != state_bytes(tmp_path / "1").keys()


@pytest.mark.parametrize(
    ("name", "rounds", "pull", "adjusted"),
    [("ditto-20", 20, PULL, False), ("ditto-5@1-adjusted", 5, 1.0, True), ("ditto-5@.5", 5, 0.5, False)],
)
def test_names_say_rounds_pull_and_adjustment(name: str, rounds: int, pull: float, adjusted: bool) -> None:
    assert find_method(name) == Ditto(name, rounds, adjusted, pull)


@pytest.mark.parametrize("pull", ["0", "20", "1000"])
def test_a_pull_that_overshoots_is_refused(tmp_path: Path, pull: str) -> None:
    made = study(tmp_path, f"ditto-2@{pull}")
    with pytest.raises(ConfigError, match=r"must be above 0 and below 1 / learning-rate = 20; usual is 0\.1 to 1"):
        made.outcome(*made.methods)
