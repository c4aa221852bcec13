"""Every kind of model comes back from its arrays as it was, and arrays that do not fit it are one clear error."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest

from medtl_core.errors import WeightsError
from medtl_core.federation.registry import all_models, unpack
from medtl_core.values import Array, Packed

SIZES = {"c": 3, "d": 4, "k": 4, "h": 5, "m": 2, "s": 2}
#: Of the models whose axes are not those of all others: a table's head has two inputs a column.
OTHER_SIZES: Mapping[str, Mapping[str, int]] = {
    "table": {"d": 8}, "fused": {"b": 3}, "gated": {"b": 3, "t": 4},
}  # fmt: skip
#: Arrays that are no positive numbers of any size.
BOUNDS = {"bounds": np.array([[0.0, 2.0, 0.0], [2.0, 4.0, 0.0]])}
OTHER_ARRAYS: Mapping[str, Mapping[str, Array]] = {"fused": BOUNDS, "gated": BOUNDS}
#: Flat values of the models that have some.
VALUES: Mapping[str, Mapping[str, str | int | float]] = {
    "blocked": {"scope": "last2"},
    "fused": {"members": '["a", "b"]'},
    "gated": {"members": '["a", "b"]'},
    "joint-directions": {"members": '["a", "b"]'},
    "metric": {"shrinkage": 0.7, "rule": "unit", "temperature": 1.0},
    "multi-label": {"method": "discriminant"},
    "mixture": {"members": '["a", "b"]'},
    "tuned": {"adapter": "lora", "scope": "last"},
}


def packed(kind: str) -> Packed:
    """Arrays as the kind declares them: positive, those of "m" entries summing to one."""
    arrays: dict[str, Array] = {}
    for name, letters in all_models()[kind].AXES.items():
        lengths = SIZES | OTHER_SIZES.get(kind, {})
        sizes = [lengths[one] + (letters[at + 1 : at + 2] == "+") for at, one in enumerate(letters) if one in lengths]
        arrays[name] = OTHER_ARRAYS.get(kind, {}).get(name, np.full(sizes, 0.5))
    return Packed(arrays, VALUES.get(kind, {}), ("x", "y", "z"), "print", {"remark": 1})


@pytest.mark.parametrize("kind", all_models())
def test_a_model_comes_back_as_it_was(kind: str) -> None:
    before = packed(kind)
    again = unpack(kind, before).pack()
    assert again.arrays.keys() == before.arrays.keys()
    assert all(np.array_equal(again.arrays[name], before.arrays[name]) for name in before.arrays)
    assert replace(again, arrays={}) == replace(before, arrays={})


@pytest.mark.parametrize("kind", all_models())
def test_arrays_that_do_not_fit_are_one_clear_error(kind: str) -> None:
    whole = packed(kind)
    for name in (name for name in all_models()[kind].AXES if name != "*"):
        array = whole.arrays[name]
        without = {other: array for other, array in whole.arrays.items() if other != name}
        broken = array.copy()
        broken[(0,) * array.ndim] = np.nan
        for changed in (without, {**without, name: array[None]}, {**without, name: broken}):
            with pytest.raises(WeightsError, match=f"{kind} model do not fit"):
                unpack(kind, replace(whole, arrays=changed))
    with pytest.raises(WeightsError, match=f"{kind} model do not fit"):
        unpack(kind, replace(whole, classes=("x", "y")))
    for name in whole.config:
        with pytest.raises(WeightsError, match=f"{kind} model do not fit"):
            unpack(kind, replace(whole, config={key: value for key, value in whole.config.items() if key != name}))
