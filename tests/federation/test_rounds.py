"""Rounds over named arrays: means by agreed weight, server steps over all arrays, and what each hospital told."""

import numpy as np
import pytest

from medtl_core.errors import RunError
from medtl_core.federation.hospitals import Request
from medtl_core.federation.memory import MemoryHospitals
from medtl_core.federation.rounds import Exchange, run_rounds
from medtl_core.federation.server_steps import Momentum, Scaffold
from medtl_core.federation.tasks import Arrays, SiteData
from medtl_core.heads.linear import Training
from medtl_core.values import Released, Update
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
    assert sorted(course.arrays) == [1, 2]
    np.testing.assert_allclose(course.arrays[1]["weight"], np.full((2, 3), 3.25))
    np.testing.assert_allclose(course.last["bias"], [7.5, 7.5])
    assert course.last["bias"].dtype == np.float32
    assert course.metrics[2] == {"a": {"loss": 1.0}, "b": {"loss": 4.0}}


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
    np.testing.assert_allclose(course.last["weight"], np.full((2, 3), 1.0 + 1.5))
    np.testing.assert_allclose(course.last["bias"], [3.5, 3.5])


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
