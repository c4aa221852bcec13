import numpy as np
import pytest

from medtl_core.report import pool


def result(seed: int = 0, **record: object) -> dict[str, object]:
    return {"seed": seed, "methods": {"m": {"by_site": {}, "curves": {}, **record}}}


def test_one_curve_is_kept_as_it_is() -> None:
    curve = [[0.0, 0.5, 1.0], [0.0, 0.8, 1.0]]
    assert pool.roc([result(curves={"roc": {"all": curve}})], "m") == tuple(curve)


def test_two_curves_are_averaged_at_each_false_positive_rate() -> None:
    steep, flat = [[0.0, 0.0, 1.0], [0.0, 1.0, 1.0]], [[0.0, 1.0], [0.0, 1.0]]
    found = pool.roc([result(0, curves={"roc": {"a": steep}}), result(1, curves={"roc": {"a": flat}})], "m", "a")
    assert found is not None
    fpr, tpr = found
    assert (fpr[0], tpr[0]) == (0.0, 0.0)
    assert np.interp(0.5, fpr, tpr) == pytest.approx((1.0 + 0.5) / 2)


def test_long_curves_are_thinned_and_keep_their_ends() -> None:
    axis = np.linspace(0, 1, 5000).tolist()
    found = pool.roc([result(curves={"roc": {"all": [axis, axis]}})], "m")
    assert found is not None
    assert len(found[0]) <= 240
    assert (found[0][0], found[0][-1]) == (0.0, 1.0)


@pytest.mark.parametrize("curves", [{}, {"roc": {}}, {"roc": {"all": [[], []]}}, {"roc": {"all": None}}])
def test_no_curve_is_none(curves: object) -> None:
    assert pool.roc([result(curves=curves)], "m") is None


def test_bins_of_several_seeds_are_weighted_by_their_cases() -> None:
    first = result(0, curves={"reliability": [[0.95], [1.0], [30]]})
    second = result(1, curves={"reliability": [[0.95, 0.1], [0.5, 0.0], [10, 0]]})
    assert pool.reliability([first, second], "m") == [pool.Bin(pytest.approx(0.95), pytest.approx(0.875), 40.0)]


def test_confidence_one_falls_into_the_last_bin() -> None:
    assert len(pool.reliability([result(curves={"reliability": [[1.0, 0.99], [1.0, 1.0], [1, 1]]})], "m")) == 1


def test_empty_bins_may_hold_null() -> None:
    assert pool.reliability([result(curves={"reliability": [[None], [None], [0]]})], "m") == []


def test_site_figures_leave_out_undefined_seeds() -> None:
    rows = [{"balanced_accuracy": 0.5, "auroc": None, "n": 4}, {"balanced_accuracy": 0.7, "auroc": None, "n": 4}]
    found = pool.by_site([result(seed, by_site={"a": row}) for seed, row in enumerate(rows)], "m")["a"]
    assert found.balanced_accuracy["mean"] == pytest.approx(0.6)
    assert found.auroc["mean"] is None
    assert found.cases == 4


def test_exchanges_average_over_seeds_and_keep_repeats_apart() -> None:
    def row(phase: str, number: int, seconds: float) -> dict[str, object]:
        return {
            "phase": phase, "round": number, "seconds": seconds, "bytes_up": 10, "bytes_down": 4,
            "replies": 3, "failures": [],
        }  # fmt: skip

    first = {"phases": [row("join", 1, 1.0), row("fit", 1, 2.0), row("fit", 1, 6.0)], "methods": {}}
    second = {"phases": [row("join", 1, 3.0), row("fit", 1, 4.0)], "methods": {}}
    found = pool.exchanges([first, second])
    assert [(item.phase, item.seconds) for item in found] == [("join", 2.0), ("fit", 3.0), ("fit", 6.0)]
    assert found[0].failures == 0.0


def test_a_run_without_ledger_has_no_exchange() -> None:
    assert pool.exchanges([{"methods": {}}]) == []
