from pathlib import Path

import numpy as np
import pytest

from medtl_core.data.leak import check_leaks
from medtl_core.errors import DataError
from medtl_core.values import Array, Examples, Task


def cases(patients: list[str], **given: Array) -> Examples:
    count = len(patients)
    columns = {"label": np.zeros(count, dtype=np.int64), "patient": np.array(patients), **given}
    return Examples(columns, Task("t", ("x", "y")))


def test_disjoint_sides_pass() -> None:
    images = np.arange(4, dtype=np.uint8).reshape(4, 1, 1, 1)
    check_leaks(cases(["a", "a", "b", "c"], image=images), {"train": np.array([0, 1]), "test": np.array([2, 3])})
    check_leaks(cases(["a"]), {})
    check_leaks(cases(["a", "a"]), {"train": np.array([0]), "test": np.empty(0, dtype=np.int64)})


def test_a_patient_on_two_sides_is_refused() -> None:
    with pytest.raises(DataError, match="case 2 and case 3 are of one patient, in 'north' and 'test'") as caught:
        check_leaks(cases(["a", "Smith", "Smith"]), {"north": np.array([0, 1]), "test": np.array([2])})
    assert "Smith" not in str(caught.value)


def test_byte_equal_images_are_named(tmp_path: Path) -> None:
    for name, content in {"one.png": b"same", "two.png": b"same", "three.png": b"diff", "four.png": b"other"}.items():
        (tmp_path / name).write_bytes(content)
    paths = np.array([str(tmp_path / f"{name}.png") for name in ("one", "three", "four", "two")])
    sides = {"train": np.array([0, 1]), "test": np.array([2, 3])}
    with pytest.raises(DataError, match=r"one\.png and .*two\.png are byte-equal images in 'train' and 'test'"):
        check_leaks(cases(["a", "b", "c", "d"], path=paths), sides)
    check_leaks(cases(["a", "b", "c", "d"], path=paths), {"train": np.array([0, 1, 3]), "test": np.array([2])})
    for name in ("one.png", "two.png"):  # an empty file is no picture, and its reader's to name
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "four.png").unlink()  # no more is one that is not there
    check_leaks(cases(["a", "b", "c", "d"], path=paths), sides)


def test_equal_arrays_are_named_by_their_number_and_equal_table_rows_are_no_leak() -> None:
    sides = {"a": np.array([0]), "b": np.array([1])}
    with pytest.raises(DataError, match="image 0 and image 1 are byte-equal images in 'a' and 'b'"):
        check_leaks(cases(["p", "q"], image=np.zeros((2, 4, 4, 1), dtype=np.uint8)), sides)
    check_leaks(cases(["p", "q"], table=np.zeros((2, 3))), sides)
