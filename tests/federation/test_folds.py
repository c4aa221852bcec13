import numpy as np
import pytest

from medtl_core.errors import ReplyError, RunError
from medtl_core.federation.folds import total, weighted_mean
from medtl_core.values import Update


def test_float32_replies_are_summed_in_float64() -> None:
    tiny = {"a": np.array([1e-8], np.float32)}
    assert total([{"a": np.array([1.0], np.float32)}] + [tiny] * 100)["a"][0] == pytest.approx(1 + 1e-6, abs=1e-12)


def test_weighted_mean_by_hand() -> None:
    mean = weighted_mean([({"a": np.array([0.0, 2.0])}, 1), ({"a": np.array([4.0, 2.0])}, 3)])
    assert mean["a"].tolist() == [3.0, 2.0]


@pytest.mark.parametrize("fold", [total, weighted_mean])
def test_nothing_to_fold_is_an_error(fold) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(RunError, match="no usable reply"):
        fold([])


def test_only_one_total_is_held() -> None:
    alive = {"now": 0, "most": 0}

    class Tracked(np.ndarray):
        def __del__(self) -> None:
            alive["now"] -= 1

    def replies():  # type: ignore[no-untyped-def]
        for _ in range(50):
            alive["now"] += 1
            alive["most"] = max(alive["most"], alive["now"])
            yield {"a": np.ones(3).view(Tracked)}

    assert total(replies())["a"].tolist() == [50.0] * 3
    assert alive["most"] <= 6  # views and temporaries of the reply in hand, never all fifty


def test_updates_refuse_to_broadcast() -> None:
    with pytest.raises(ReplyError, match="refusing to broadcast"):
        Update({"a": np.zeros((3, 4))}) + Update({"a": np.zeros((1, 4))})
    with pytest.raises(ReplyError, match="different arrays"):
        Update({"a": np.zeros(1)}) + Update({"b": np.zeros(1)})
