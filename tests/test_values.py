import numpy as np
import pytest

from medtl_core.config import Settings
from medtl_core.errors import ConfigError, DataError, did_you_mean, positive
from medtl_core.fingerprint import agreement
from medtl_core.rng import bucket, stream
from medtl_core.values import Examples, Task


def test_streams_are_independent_of_order_and_named() -> None:
    first = stream(0, "a").random(3)
    stream(0, "b").random(100)
    np.testing.assert_array_equal(stream(0, "a").random(3), first)
    assert not np.array_equal(stream(1, "a").random(3), first)
    assert not np.array_equal(stream(0, "ab").random(3), stream(0, "a", "b").random(3))


def test_a_table_with_other_rows_than_the_images_is_refused() -> None:
    columns = {"label": np.zeros(2, np.int64), "image": np.zeros((2, 8, 8, 3), np.uint8), "table": np.zeros((3, 4))}
    with pytest.raises(DataError, match="label 2, image 2, table 3"):
        Examples(columns, Task("", ("x",)))


def test_buckets_are_even_enough() -> None:
    counts = np.bincount([bucket(0, f"p{i}", 5) for i in range(5000)], minlength=5)
    assert counts.min() > 900


def test_agreement_covers_what_matters_and_nothing_local() -> None:
    base = agreement(Settings(), ("a", "b"), "f")
    assert agreement(Settings(cache="/elsewhere", methods="ridge", quorum=1.0), ("a", "b"), "f") == base
    for other in (Settings(seed=1), Settings(folds=4), Settings(min_cell=5)):
        assert agreement(other, ("a", "b"), "f") != base
    assert agreement(Settings(), ("b", "a"), "f") != base
    assert agreement(Settings(), ("a", "b"), "g") != base


def test_keyword_checks_name_the_culprit() -> None:
    with pytest.raises(ConfigError, match="batch-size=0"):
        positive(epochs=1, batch_size=0)
    assert did_you_mean("zzz", ["a", "b"]) == "known: a, b"
