"""Each server step equals its Flower namesake on the same replies."""

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord
from flwr.serverapp.strategy import FedAdam, FedAvgM

from medtl_core.federation.server_steps import Adam, Average, Memory, Momentum, Scaffold, ServerStep
from medtl_core.heads.linear import Training
from medtl_core.rng import stream


def ours(step: ServerStep, means: list[np.ndarray]) -> np.ndarray:
    head, memory = np.zeros(4), Memory()
    for mean in means:
        head, memory = step.apply(head, mean - head, memory)
    return head


def test_average_moves_to_the_mean() -> None:
    assert ours(Average(), [np.ones(4), np.arange(4.0)]).tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("name", ["fedavgm", "fedadam"])
def test_equals_flower(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from flwr.serverapp.strategy import FedAvg

    means = [stream(3, name, i).standard_normal(4) for i in range(5)]
    flower = (
        FedAvgM(server_learning_rate=0.3, server_momentum=0.9)
        if name == "fedavgm"
        else FedAdam(eta=0.01, beta_1=0.9, beta_2=0.99, tau=1e-3)
    )
    current = ArrayRecord({"w": Array(np.zeros(4))})
    for number, mean in enumerate(means, start=1):
        record = ArrayRecord({"w": Array(mean)})
        monkeypatch.setattr(FedAvg, "aggregate_train", lambda self, rnd, replies, r=record: (r, None))
        flower.current_arrays = (
            current if name == "fedavgm" else dict(zip(["w"], current.to_numpy_ndarrays(), strict=True))
        )
        current, _ = flower.aggregate_train(number, [])
    step = Momentum(0.9, 0.3) if name == "fedavgm" else Adam(0.01)
    np.testing.assert_allclose(ours(step, means), current.to_numpy_ndarrays()[0], rtol=1e-9)


def test_scaffold_control_follows_option_two() -> None:
    step = Scaffold(Training(epochs=1, batch_size=8, learning_rate=0.25), hospitals=2)
    memory = {"mean": np.array([0.5]), "of a": np.array([2.0])}
    here = np.zeros(1)
    assert step.correction("a", here, memory).tolist() == [-1.5]
    assert step.correction("new", here, memory).tolist() == [0.5]
    heard = step.heard("a", np.array([-1.0]), 16, memory)  # c_k - c + (w - w_k) / (K lr) = 2 - .5 + 1 / .5
    assert heard["of a"].tolist() == [3.5]
    moved, after = step.apply(here, np.array([-1.0]), {**memory, **heard})
    assert (moved.tolist(), after["mean"].tolist(), after["of a"].tolist()) == ([-1.0], [1.75], [3.5])
