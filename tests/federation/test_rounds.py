"""Rounds over named arrays: means by agreed weight, server steps over all arrays, and what each hospital told."""

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord
from flwr.serverapp.strategy import FedAdam, FedAvg, FedAvgM

from medtl_core.errors import RunError
from medtl_core.federation.hospitals import Request
from medtl_core.federation.rounds import Exchange, run_rounds
from medtl_core.federation.server_steps import Adam, Average, Memory, Momentum, Scaffold, ServerStep
from medtl_core.federation.tasks import Arrays, SiteData
from medtl_core.heads.linear import Training
from medtl_core.rng import stream
from medtl_core.values import Released, Update
from simulations.memory import MemoryHospitals
from tests.memory import make_site

START = {"weight": np.zeros((2, 3)), "bias": np.ones(2)}


class Movers(MemoryHospitals):
    """Each hospital adds its own number to every array, less what corrects it."""

    def __init__(self, moves: dict[str, tuple[float, int]]) -> None:
        super().__init__([make_site(name, cases) for name, (_, cases) in moves.items()])
        self.moves = {name: move for name, (move, _) in moves.items()}
        self.controls: list[np.ndarray] = []

    def answer(self, site: SiteData, request: Request, arrays: Arrays) -> Released:
        move, control = self.moves[site.name], arrays.get("control", np.zeros(()))
        self.controls.append(control)
        moved = {key: (arrays[key] + move - control).astype(np.float32) for key in request.expect}
        return Released(Update(moved), metrics={"loss": move})


def test_the_mean_is_weighted_by_agreed_cases_and_kept_where_it_is_wanted() -> None:
    hospitals = Movers({"a": (1.0, 1), "b": (4.0, 3)})
    course = run_rounds(hospitals, Exchange("task", "phase", 2, keep=frozenset({1})), START)
    assert sorted(course.exact) == [1, 2]
    np.testing.assert_allclose(course.exact[1]["weight"], np.full((2, 3), 3.25))
    np.testing.assert_allclose(course.exact[2]["bias"], [7.5, 7.5])
    assert course.metrics[2] == {"loss": 2.5} and course.flagged == {"loss": {"a", "b"}}


def test_fixed_arrays_are_sent_and_not_expected_back() -> None:
    hospitals = Movers({"a": (1.0, 1)})
    run_rounds(hospitals, Exchange("task", "phase", 1, {"rate": 0.1}, {"mean": np.zeros(3)}), START)
    (request,) = hospitals.asked
    assert (set(request.arrays), set(request.expect)) == ({"mean", "weight", "bias"}, {"weight", "bias"})
    assert request.config == {"rate": 0.1, "round": 1, "of": 1}
    assert (request.phase, request.own) == ("phase", None)


def test_a_server_step_sees_all_arrays_as_one() -> None:
    hospitals = Movers({"a": (1.0, 1)})
    course = run_rounds(hospitals, Exchange("task", "phase", 2, step=Momentum(0.5, 1.0)), START)
    np.testing.assert_allclose(course.exact[2]["weight"], np.full((2, 3), 1.0 + 1.5))
    np.testing.assert_allclose(course.exact[2]["bias"], [3.5, 3.5])


def test_scaffold_sends_every_hospital_a_correction_of_its_own() -> None:
    hospitals = Movers({"a": (1.0, 8), "b": (-1.0, 8)})
    step = Scaffold(Training(epochs=1, batch_size=8, learning_rate=0.5), hospitals=2)
    run_rounds(hospitals, Exchange("task", "phase", 2, step=step), {"head": np.zeros((1, 2))})
    assert [control.shape for control in hospitals.controls] == [(1, 2)] * 4
    # c_k = -change / (1 step x 0.5), c = 0: the second round corrects by c - c_k
    np.testing.assert_allclose([control[0, 0] for control in hospitals.controls], [0.0, 0.0, 2.0, -2.0])


def test_no_reply_is_an_error() -> None:
    with pytest.raises(RunError, match="no usable reply"):
        run_rounds(Movers({}), Exchange("task", "phase", 1), START)


# --- each server step equals its Flower namesake on the same replies


def ours(step: ServerStep, means: list[np.ndarray]) -> np.ndarray:
    head, memory = np.zeros(4), Memory()
    for mean in means:
        head, memory = step.apply(head, mean - head, memory)
    return head


def test_average_moves_to_the_mean() -> None:
    assert ours(Average(), [np.ones(4), np.arange(4.0)]).tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("name", ["fedavgm", "fedadam"])
def test_equals_flower(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
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
