"""The eight ways to lay a square: all differ, maps undo them, and an exported network has the same."""

import numpy as np
import pytest

from medtl_core.data.views import VIEWS

SQUARE = np.arange(27, dtype=np.uint8).reshape(3, 3, 3)
LAID = tuple(VIEWS)[:8]


def test_they_are_all_eight() -> None:
    assert len({np.ascontiguousarray(VIEWS[view](SQUARE)).tobytes() for view in LAID}) == 8


@pytest.mark.parametrize("view", LAID)
def test_each_is_undone_and_exported(view: str) -> None:
    import torch

    from medtl_core.export.graph import _VIEWS
    from medtl_core.predict.attribution import _BACK

    there = VIEWS[view](SQUARE)
    assert (VIEWS[_BACK.get(view, view)](there) == SQUARE).all()
    assert (_VIEWS[view](torch.from_numpy(SQUARE[None]))[0].numpy() == there).all()
