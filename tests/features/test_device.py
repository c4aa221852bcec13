"""Features on a device: the same numbers in passes of any length, less memory than hoped for, and words for devices."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from medtl_core.config import Settings
from medtl_core.data import views as views_module
from medtl_core.errors import ConfigError
from medtl_core.features import extract as module
from medtl_core.features.extract import FeatureSpec, extract, feature_spec
from medtl_core.features.forward import Forward
from medtl_core.runtime import CPU, Processor, processor
from medtl_core.values import Examples, Task

VIEWS = ("identity", "flip-h")
SMALL = Settings(backbone="random:lite0", features="4+7", image_size=32, cache="off")

pytestmark = pytest.mark.usefixtures("one_torch_thread")


def pictures(count: int, size: int = 40) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


def run(images: NDArray[np.uint8], settings: Settings = SMALL, **options: Any) -> NDArray[np.float32]:
    examples = Examples({"image": images}, Task("none", ("a", "b")))
    return extract(examples, feature_spec(settings, VIEWS), settings, **options).values


def spread(values: NDArray[np.float32], others: NDArray[np.float32]) -> float:
    """The largest distance, in standard deviations of each feature."""
    return float((np.abs(values - others) / (others.std(axis=0) + 1e-6)).max())


class Card(Forward):
    """A device that is fed, as a GPU is, and has memory for so many pictures; it computes on the processor."""

    room = 1 << 20

    def __init__(self, name: str, weights: str, spec: FeatureSpec, place: Processor) -> None:
        super().__init__(name, weights, spec, CPU)
        self.fed, self.batch, self.passes = True, 8, list[int]()

    def _rows(self, pixels: Any) -> Any:
        pictures = len(pixels) // len(VIEWS)
        if pictures > self.room:
            raise torch.OutOfMemoryError("out of memory")
        self.passes.append(pictures)
        return super()._rows(pixels)


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> list[Card]:
    """The devices that a test uses."""
    cards: list[Card] = []

    def made(*words: Any) -> Card:
        cards.append(Card(*words))
        return cards[-1]

    monkeypatch.setattr(module, "forward", made)
    return cards


@pytest.mark.parametrize(
    ("name", "views"),
    [
        ("lite0", VIEWS[:1]),
        pytest.param("random:resnet18", VIEWS, marks=pytest.mark.slow),
        ("random:timm:test_vit", VIEWS),
        pytest.param("lite0", VIEWS, marks=pytest.mark.slow),
        pytest.param("random:resnet18", VIEWS[:1], marks=pytest.mark.slow),
        pytest.param("random:timm:test_vit", VIEWS[:1], marks=pytest.mark.slow),
        pytest.param("random:mobilenet_v2", VIEWS[:1], marks=pytest.mark.slow),
        pytest.param("random:squeezenet1_1", VIEWS, marks=pytest.mark.slow),
        pytest.param("random:densenet121", VIEWS[:1], marks=pytest.mark.slow),
    ],
)
def test_a_picture_has_the_same_bytes_at_every_place_in_any_company(name: str, views: tuple[str, ...]) -> None:
    spec = feature_spec(Settings(backbone=name, image_size=64), views)
    assert isinstance(spec, FeatureSpec)
    network = Forward(name, "", spec, CPU)
    assert network.batch == 32
    prepared = [views_module.views_of(image, 64, views) for image in pictures(network.batch)]
    together = rows_of(network, prepared)
    for shift in (1, network.batch // 2):
        turned = [*prepared[shift:], *prepared[:shift]]
        expected = [*together[shift:], *together[:shift]]
        assert rows_of(network, turned) == expected
        assert rows_of(network, turned[:1]) == expected[:1]


def rows_of(network: Forward, prepared: list[NDArray[np.uint8]]) -> list[bytes]:
    """The bytes of each picture's rows."""
    rows = network(torch.from_numpy(np.concatenate(prepared)))
    return [part.numpy().tobytes() for part in rows.view(len(prepared), len(prepared[0]), -1)]


def test_how_many_pictures_pass_at_once_follows_from_their_size_alone() -> None:
    lengths = []
    for size in (32, 128, 224):
        spec = feature_spec(SMALL.replace(image_size=size), VIEWS)
        assert isinstance(spec, FeatureSpec)
        lengths.append(Forward(SMALL.backbone, "", spec, CPU).batch)
    assert lengths == [32, 8, 2]


def test_a_card_agrees_with_the_processor_to_a_thousandth_of_the_spread(card: list[Card]) -> None:
    images = pictures(20)
    on_card = run(images, workers=2)
    assert sorted(card[0].passes) == [4, 8, 8]
    expected = processed(images)
    assert spread(on_card, expected) < 1e-3


def processed(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The features of images on the processor, float32 [n, d]."""
    spec = feature_spec(SMALL, VIEWS)
    assert isinstance(spec, FeatureSpec)
    views = np.concatenate([views_module.views_of(image, 32, VIEWS) for image in images])
    rows = Forward(SMALL.backbone, "", spec, CPU)(torch.from_numpy(views))
    return np.asarray(rows.view(len(images), len(VIEWS), -1).mean(dim=1))


@pytest.mark.parametrize(("room", "words"), [(3, "2 pictures at a time"), (0, "the CPU reads all")])
def test_where_memory_is_short_passes_are_halved_and_the_processor_takes_the_rest(
    room: int, words: str, card: list[Card], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(Card, "room", room)
    images = pictures(20)
    with caplog.at_level(logging.WARNING, logger="medtl"):
        found = run(images)
    assert caplog.text.count(words) == 1
    assert max(card[0].passes, default=0) <= room and len(found) == 20
    expected = processed(images)
    assert spread(found, expected) < 1e-3


def test_a_case_of_several_pictures_is_their_mean(monkeypatch: pytest.MonkeyPatch) -> None:
    slices = pictures(3)
    expected = run(slices).mean(axis=0)
    single = run(slices[:1])
    monkeypatch.setattr(views_module, "read_each", lambda images, **how: [slices] * len(images))
    np.testing.assert_allclose(run(slices[:1])[0], expected, rtol=1e-5, atol=1e-6)
    monkeypatch.setattr(views_module, "read_each", lambda images, **how: [slices[:1]] * len(images))
    assert run(slices[:1]).tobytes() == single.tobytes()


def test_coarse_features_never_stand_for_others(tmp_path: Path) -> None:
    images, settings = pictures(2), SMALL.replace(cache=str(tmp_path))
    coarse = run(images, settings.replace(device="cpu:bf16"))
    assert run(images, settings).tobytes() == run(images).tobytes() != coarse.tobytes()
    assert run(images, settings.replace(device="cpu:bf16")).tobytes() == coarse.tobytes()


@pytest.mark.parametrize("word", ["gpu", "cuda:", "cuda:x", "auto:bf16", "bf16", ""])
def test_a_word_that_names_no_device_is_refused(word: str) -> None:
    with pytest.raises(ConfigError, match="choose auto, cpu, cuda"):
        Settings(device=word)


def test_a_card_that_is_not_here_is_refused_with_a_remedy() -> None:
    with pytest.raises(ConfigError, match=r"device=cuda:97 is not here: torch sees \d+ GPU.*device=auto or cpu"):
        run(pictures(1), SMALL.replace(device="cuda:97"))
    assert processor("cpu") == CPU
    assert processor("auto").place in ("cpu", "cuda")
    assert replace(processor("cpu:bf16"), half=False) == CPU
