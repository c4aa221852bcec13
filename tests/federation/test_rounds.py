"""Rounds over named arrays: means by agreed weight, server steps over all arrays, and what each hospital told."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from medtl_core.errors import RunError
from medtl_core.federation.hospitals import Cost, Failure, Hospitals, Reply, Request
from medtl_core.federation.rounds import Exchange, run_rounds
from medtl_core.federation.server_steps import Momentum


class Movers(Hospitals):
    """Each hospital adds its own number to every array."""

    def __init__(self, moves: dict[str, tuple[float, int]]) -> None:
        self.moves, self.asked = moves, []

    @property
    def weights(self) -> Mapping[str, int]:
        return {name: weight for name, (_, weight) in self.moves.items()}

    def ask(self, request: Request) -> Iterator[Reply]:
        self.asked.append(request)
        for name, (move, weight) in self.moves.items():
            arrays = {key: (request.arrays[key] + move).astype(np.float32) for key in request.expect}
            yield Reply(name, arrays, {"loss": move}, weight)

    @property
    def costs(self) -> Mapping[str, Cost]:
        return {}

    @property
    def failures(self) -> tuple[Failure, ...]:
        return ()

    @property
    def history(self) -> Sequence[Mapping[str, Any]]:
        return ()


START = {"weight": np.zeros((2, 3)), "bias": np.ones(2)}


def test_the_mean_is_weighted_by_agreed_cases() -> None:
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
    assert request.phase == "phase"


def test_a_server_step_sees_all_arrays_as_one() -> None:
    hospitals = Movers({"a": (1.0, 1)})
    course = run_rounds(hospitals, Exchange("task", "phase", 2, step=Momentum(0.5, 1.0)), START)
    np.testing.assert_allclose(course.last["weight"], np.full((2, 3), 1.0 + 1.5))
    np.testing.assert_allclose(course.last["bias"], [3.5, 3.5])


def test_no_reply_is_an_error() -> None:
    with pytest.raises(RunError, match="no usable reply"):
        run_rounds(Movers({}), Exchange("task", "phase", 1), START)
