"""Orders and their agreement."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from medtl_core.cli.ranking import kendall, regret, spearman
from medtl_core.errors import DataError

values = st.lists(st.integers(-4, 4), min_size=2, max_size=12)


@given(values)
def test_an_order_agrees_with_itself_and_disagrees_with_its_reverse(first: list[int]) -> None:
    assume(len(set(first)) > 1)
    opposite = [-value for value in first]
    assert spearman(first, first) == kendall(first, first) == 1.0
    assert spearman(first, opposite) == kendall(first, opposite) == -1.0
    assert regret(first, first) == 0.0
    assert regret(first, opposite) == max(first) - min(first)


def test_a_constant_side_has_no_order() -> None:
    assert np.isnan(spearman([1, 1, 1], [1, 2, 3]))
    assert np.isnan(kendall([1, 2, 3], [5, 5, 5]))


@pytest.mark.parametrize("measure", [spearman, kendall, regret])
@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        ([1.0, 2.0], [1.0], "equal length, not 2 and 1"),
        ([1.0], [1.0], "at least two candidates"),
        ([1.0, float("nan")], [1.0, 2.0], "not finite"),
    ],
)
def test_what_cannot_be_ordered_is_refused(
    measure: Callable[..., float], first: list[float], second: list[float], words: str
) -> None:
    with pytest.raises(DataError, match=words):
        measure(first, second)
