"""A rival's luck does not count: it is picked on one half of the seeds and compared on the other."""

from simulations.rivals import against_best


def test_a_lucky_rival_is_compared_where_it_was_not_picked() -> None:
    own = {0: 50.0, 1: 50.0, 2: 50.0, 3: 50.0}
    lucky = {0: 60.0, 1: 44.0, 2: 60.0, 3: 44.0}  # best on even seeds
    steady = {0: 49.0, 1: 49.0, 2: 49.0, 3: 49.0}  # best on odd seeds
    # lucky, picked on 0 and 2, loses by 6 on 1 and 3; steady, picked on 1 and 3, loses by 1 on 0 and 2
    assert against_best({"own": own, "lucky": lucky, "steady": steady}, "own") == "+3.5 ± 4.6 (steady / lucky)"


def test_too_little_to_compare_is_a_dash() -> None:
    few = {0: 50.0, 2: 50.0}
    assert against_best({"own": few, "other": few}, "own") == "-"
    assert against_best({"own": few}, "own") == "-"
    assert against_best({"other": few}, "own") == "-"
    assert against_best({"own": few, "other": {0: 1.0, 1: 1.0}}, "own") == "-"
