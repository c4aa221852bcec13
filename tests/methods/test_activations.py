"""The memo of prefix activations: once an image, bounded, and never another answer."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch

from medtl_core.errors import DataError
from medtl_core.features.dataset import DerivedStore, Material
from medtl_core.methods.finetune.activations import Inputs, tuned_features
from medtl_core.methods.finetune.split_backbone import open_backbone
from medtl_core.methods.finetune.trainable_suffix import FrozenPrefix
from medtl_core.values import Examples
from tests.methods.pictures import SETTINGS, VIEWS, cases, material


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Numbers of views that prefixes ran on."""
    seen: list[int] = []
    original = FrozenPrefix.__call__

    def counted(self: FrozenPrefix, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        seen.append(len(pixels))
        return original(self, pixels)

    monkeypatch.setattr(FrozenPrefix, "__call__", counted)
    return seen


def entry(floats: int) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.zeros(floats), torch.zeros(0)


def test_the_memo_drops_the_least_recently_used_beyond_its_limit() -> None:
    memo = DerivedStore(limit=100)
    memo.put("a", entry(10))
    memo.put("b", entry(10))
    assert memo.get("a") is not None
    memo.put("c", entry(10))
    assert [key for key in "abc" if memo.get(key) is not None] == ["a", "c"]
    assert memo.bytes == 80
    memo.put("a", entry(3))  # known: nothing changes
    memo.put("large", entry(26))
    assert (len(memo), memo.bytes, memo.get("large")) == (2, 80, None)


def test_an_image_runs_once_a_process_and_scope(runs: list[int]) -> None:
    whole, body = material(4), open_backbone(SETTINGS, VIEWS, "last")
    first = Inputs(body, whole).batch([0, 1, 2, 3])
    again = Inputs(body, whole.take(np.array([2, 3]))).batch([1, 0])
    assert runs == [2] * 4
    torch.testing.assert_close(again[0][:2], first[0][6:8], rtol=0, atol=0)
    Inputs(open_backbone(SETTINGS, VIEWS, "last2"), whole).batch([0])
    assert runs == [2] * 5


def test_one_view_of_each_case_is_a_row_of_all_views() -> None:
    inputs = Inputs(open_backbone(SETTINGS.replace(features="1+4"), VIEWS, "last"), material(3))
    every, wide = inputs.batch([0, 2])
    one, narrow = inputs.batch([2, 0], [1, 0])
    assert every.shape == (4, 40, 4, 4)
    torch.testing.assert_close(one, every[[3, 0]], rtol=0, atol=0)
    torch.testing.assert_close(narrow, wide[[3, 0]], rtol=0, atol=0)


def test_a_store_without_room_gives_the_same_features(runs: list[int]) -> None:
    body = open_backbone(SETTINGS, VIEWS, "last")
    expected = tuned_features(body, material(4))
    runs.clear()
    cramped = replace(material(4), store=DerivedStore(limit=0))
    for _ in range(2):
        np.testing.assert_array_equal(tuned_features(body, cramped), expected)
    assert (len(cramped.store), len(runs)) == (0, 8)


def test_the_whole_network_reads_pixels(runs: list[int]) -> None:
    pixels = material(2)
    read, shallow = Inputs(open_backbone(SETTINGS, VIEWS, "all"), pixels).batch([0, 1])
    assert (read.dtype, read.shape, shallow.shape) == (torch.uint8, (4, 32, 32, 3), (4, 0))
    assert not runs
    assert pixels.store.bytes == 2 * 2 * 32 * 32 * 3


def test_an_unreadable_image_and_a_table_are_data_errors(tmp_path: object) -> None:
    body, chosen = open_backbone(SETTINGS, VIEWS, "last"), cases().take(np.arange(1))
    path = {**{k: v for k, v in chosen.columns.items() if k != "image"}, "path": np.array([f"{tmp_path}/none.png"])}
    with pytest.raises(DataError, match=r"none\.png"):
        tuned_features(body, Material(Examples(path, chosen.task), SETTINGS, VIEWS))
    table = {**{k: v for k, v in chosen.columns.items() if k != "image"}, "table": np.zeros((1, 2))}
    with pytest.raises(DataError, match="no images"):
        tuned_features(body, Material(Examples(table, chosen.task), SETTINGS, VIEWS))
