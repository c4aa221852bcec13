"""The classifier of private mechanisms: its logits, and its way over the wire."""

from dataclasses import replace

import numpy as np
import pytest

from medtl_core.errors import WeightsError
from medtl_core.federation.model import Packed
from medtl_core.federation.registry import unpack
from medtl_core.methods.private.pca_head import Directions
from medtl_core.methods.private.public_pca import PublicMap


def model() -> Directions:
    rng = np.random.default_rng(0)
    map_ = PublicMap(rng.standard_normal(5), rng.uniform(0.5, 2, 5), rng.standard_normal((5, 4)))
    return Directions(map_, rng.standard_normal((3, 4)), rng.standard_normal(3), ("a", "b", "c"), "print", {"e": 4.0})


def test_logits_are_those_of_rows_of_length_one() -> None:
    map_ = PublicMap(np.array([1.0, 0.0]), np.array([2.0, 1.0]), np.eye(2))
    made = Directions(map_, np.array([[1.0, 0.0], [0.0, 2.0]]), np.array([0.0, 0.5]), ("a", "b"), "print")
    assert made.logits(np.array([[7.0, 4.0], [1.0, 0.0]])).round(12).tolist() == [[0.6, 2.1], [0.0, 0.5]]


def test_it_travels_whole() -> None:
    values = np.random.default_rng(1).standard_normal((6, 5))
    made = model()
    again = unpack("directions", made.pack())
    assert again.logits(values).tobytes() == made.logits(values).tobytes()
    assert (again.classes, again.fingerprint, again.facts) == (made.classes, made.fingerprint, made.facts)


@pytest.mark.parametrize(
    ("name", "shape"), [("mean", (4,)), ("scale", (6,)), ("basis", (4, 4)), ("weight", (3, 5)), ("bias", (2,))]
)
def test_arrays_that_do_not_fit_are_refused(name: str, shape: tuple[int, ...]) -> None:
    packed = model().pack()
    with pytest.raises(WeightsError, match="do not fit"):
        unpack("directions", replace(packed, arrays={**packed.arrays, name: np.zeros(shape)}))


def test_missing_arrays_and_other_classes_are_refused() -> None:
    packed = model().pack()
    with pytest.raises(WeightsError, match="do not fit"):
        Directions.unpack(Packed({"mean": np.zeros(2)}, {}, ("a",), ""))
    with pytest.raises(WeightsError, match="do not fit"):
        Directions.unpack(replace(packed, classes=("a", "b")))
