"""From examples to features: the same bytes for the same image, from the cache or not, alone or in company."""

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from medtl_core.backbones.weights import load_weights
from medtl_core.backbones.zoo import find_backbone
from medtl_core.config import Settings
from medtl_core.data.images import content_key
from medtl_core.errors import DataError, WeightsError
from medtl_core.features import extract as module
from medtl_core.features.cache import FeatureCache
from medtl_core.features.extract import FeatureSpec, extract, feature_spec
from medtl_core.features.forward import Forward
from medtl_core.values import Examples, Features, Task, digest

ROOT = Path(__file__).resolve().parents[2]
VIEWS = ("identity", "flip-h")
SMALL = Settings(backbone="random:lite0", features="4+7", image_size=32, cache="off")

pytestmark = pytest.mark.usefixtures("one_torch_thread")


def cases(images: NDArray[Any], column: str = "image") -> Examples:
    count = len(images)
    text = np.array([f"p{number}" for number in range(count)], dtype=np.str_)
    columns = {"label": np.zeros(count, dtype=np.int64), "patient": text, "site": text, "split": text}
    return Examples({**columns, column: images}, Task("none", ("a", "b")))


def pictures(count: int = 5, size: int = 40, channels: int = 3, seed: int = 0) -> NDArray[np.uint8]:
    shape = (count, size, size, channels)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def run(images: NDArray[Any], settings: Settings = SMALL, views: tuple[str, ...] = VIEWS, **options: Any) -> Features:
    return extract(cases(images), feature_spec(settings, views), settings, **options)


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Every image that goes through the backbone."""
    seen: list[Any] = []
    original = module.views_of_each

    def counting(images: Any, size: int, views: tuple[str, ...], **how: bool) -> Iterator[NDArray[np.uint8]]:
        for image in images:
            seen.append(image)
            yield from original([image], size, views, **how)

    monkeypatch.setattr(module, "views_of_each", counting)
    return seen


# --- what is computed


def centre(maps: torch.Tensor) -> torch.Tensor:
    """The mean of maps [n, c, h, w] under a Gaussian at their middle, as wide as .12 of the side."""
    y, x = ((torch.arange(length) + 0.5) / length - 0.5 for length in maps.shape[2:])
    weights = torch.exp(-(y[:, None] ** 2 + x[None] ** 2) / (2 * 0.12**2))
    return (maps * weights).sum((2, 3)) / weights.sum()


def test_features_are_those_of_timms_network_on_images_prepared_by_hand() -> None:
    import timm

    settings = Settings(backbone="lite0", image_size=48, cache="off")
    images = pictures(2, size=70)
    views = ("identity", "flip-h", "flip-v", "transpose")
    found = run(images, settings, views)
    network = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    network.load_state_dict(load_weights(find_backbone("lite0"))[0])
    maps: dict[int, torch.Tensor] = {}
    for number, path in enumerate(("blocks.2.1", "blocks.3.2", "blocks.4.2")):
        network.get_submodule(path).register_forward_hook(lambda m, i, o, n=number: maps.__setitem__(n, o))
    network.eval()
    for image, row in zip(images, found.values, strict=True):
        small = np.asarray(Image.fromarray(image).resize((48, 48), Image.Resampling.BILINEAR)) / 255.0
        turned = [small, small[:, ::-1], small[::-1], small.transpose(1, 0, 2)]
        batch = torch.tensor(np.stack(turned).transpose(0, 3, 1, 2) * 2 - 1, dtype=torch.float32)
        with torch.no_grad():
            network(batch)
        parts = [
            part
            for n in range(3)
            for part in (maps[n].mean((2, 3)), maps[n].flatten(2).std(2, correction=0), centre(maps[n]))
        ]
        np.testing.assert_allclose(row, torch.cat(parts, dim=1).mean(dim=0).numpy(), atol=1e-4, rtol=1e-4)
    assert found.groups == (("4", 0, 120), ("7", 120, 360), ("10", 360, 696))
    assert found.values.dtype == np.float32


def test_sizes_and_a_table_stand_beside_the_images() -> None:
    sized = SMALL.replace(image_size="32+48")
    images = pictures(2)
    both = run(images, sized)
    apart = [run(images, SMALL.replace(image_size=size)).values for size in (32, 48)]
    np.testing.assert_array_equal(both.values, np.concatenate(apart, axis=1))
    assert [name for name, _, _ in both.groups] == [f"random:lite0@{size}:{tap}" for size in (32, 48) for tap in (4, 7)]
    examples = cases(images)
    table = np.array([[1.5, np.nan], [-2.0, 4.0]])
    known = Examples({**examples.columns, "table": table}, examples.task)
    beside = SMALL.replace(backbone="random:lite0+table")
    found = extract(known, feature_spec(beside, VIEWS, ("a", "b")), beside)
    np.testing.assert_array_equal(found.values[:, :-4], apart[0])
    assert found.values[:, -4:].tolist() == [[1.5, 0.0, 0.0, 1.0], [-2.0, 0.0, 4.0, 0.0]]
    assert found.groups[-1][0] == "table:table"
    with pytest.raises(DataError, match="hold no table"):
        extract(examples, feature_spec(beside, VIEWS, ("a", "b")), beside)


def test_features_of_version_2_are_those_without_the_centre() -> None:
    images = pictures(1)
    now, then = run(images, SMALL), run(images, SMALL.replace(features="4+7@2"))
    np.testing.assert_array_equal(then.values, np.delete(now.values, np.r_[80:120, 280:360], axis=1))
    assert then.fingerprint != now.fingerprint


def test_what_cannot_be_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken.png").write_bytes(b"no picture")
    spec = feature_spec(SMALL, VIEWS)
    with pytest.raises(DataError, match=r"broken\.png"):
        extract(cases(np.array([str(tmp_path / "broken.png")]), "path"), spec, SMALL)
    with pytest.raises(DataError, match="hold no images"):
        extract(cases(np.zeros((2, 3)), "table"), spec, SMALL)
    stored = SMALL.replace(backbone="lite0")
    with pytest.raises(WeightsError, match="changed while the run was starting"):
        extract(cases(pictures(1)), replace(feature_spec(stored, VIEWS), weights_sha="0" * 64), stored)
    monkeypatch.setattr(Forward, "_rows", lambda self, pixels: torch.full((len(pixels), 240), float("nan")))
    with pytest.raises(WeightsError, match="not finite"):
        run(pictures(1))


# --- the same bytes


@pytest.mark.parametrize("threads", [1, 2])
def test_an_image_has_the_same_features_in_any_company(threads: int) -> None:
    images = pictures(7)
    together = run(images).values
    assert len({row.tobytes() for row in together}) == 7
    for number in range(7):
        assert run(images[number : number + 1]).values.tobytes() == together[number].tobytes()
    order = np.array([3, 0, 6, 2, 5, 1, 4])
    assert run(images[order]).values.tobytes() == together[order].tobytes()
    larger = run(np.concatenate([pictures(70, seed=1), images])).values
    assert larger[70:].tobytes() == together.tobytes()
    torch.set_num_threads(threads)
    assert run(images, workers=2).values.tobytes() == together.tobytes()
    assert torch.get_num_threads() == threads  # the caller's


def test_equal_images_are_computed_once_and_none_give_no_rows(counted: list[Any]) -> None:
    images = pictures(3)[[0, 1, 0, 2, 1, 0]]
    values = run(images).values
    assert len(counted) == 3
    assert values[0].tobytes() == values[2].tobytes() == values[5].tobytes()
    none = run(images[:0]).values
    assert (none.shape, none.dtype) == ((0, 3 * (40 + 80)), np.float32)


# --- the cache


def test_cached_features_equal_computed_ones(tmp_path: Path, counted: list[Any]) -> None:
    images, settings = pictures(4), SMALL.replace(cache=str(tmp_path / "cache"))
    computed = run(images).values
    first = run(images[:3], settings).values
    assert len(counted) == 4 + 3
    again = run(images[::-1], settings)
    assert len(counted) == 4 + 3 + 1
    assert first.tobytes() == computed[:3].tobytes()
    assert again.values.tobytes() == computed[::-1].tobytes()
    assert again.groups == run(images).groups
    assert list(tmp_path.iterdir()) == [tmp_path / "cache"]


def test_ill_shaped_rows_are_computed_again(tmp_path: Path, counted: list[Any]) -> None:
    images, settings = pictures(4), SMALL.replace(cache=str(tmp_path))
    expected = run(images, settings).values
    key = digest([content_key(images[0]), feature_spec(settings, VIEWS).fingerprint])
    FeatureCache(tmp_path).put_many({key: np.zeros(7, dtype=np.float32)})
    for _ in range(2):
        assert run(images, settings).values.tobytes() == expected.tobytes()
    assert len(counted) == 4 + 1


def test_a_broken_image_costs_only_its_own_chunk(
    tmp_path: Path, counted: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_CHUNK", 2)
    settings = SMALL.replace(cache=str(tmp_path / "cache"), image_size=224)  # a pass is one image
    paths = [tmp_path / f"{number}.png" for number in range(4)]
    for path, image in zip(paths, pictures(4), strict=True):
        Image.fromarray(image).save(path)
    paths[3].write_bytes(b"broken")
    files = cases(np.array([str(path) for path in paths]), "path")
    for workers in (1, 2):
        with pytest.raises(DataError, match=r"3\.png"):
            extract(files, feature_spec(settings, VIEWS), settings, workers=workers)
    assert len([image for image in counted if str(image).endswith(("0.png", "1.png"))]) == 2


# --- tables


def table_spec(columns: int) -> FeatureSpec:
    return feature_spec(Settings(backbone="table"), (), list("abcd")[:columns])


def test_a_table_becomes_its_values_and_their_gaps() -> None:
    table = np.array([[1.5, np.nan], [-2.0, 3.0]])
    found = extract(cases(table, "table"), table_spec(2), Settings(backbone="table"))
    assert found.values.tolist() == [[1.5, 0.0, 0.0, 1.0], [-2.0, 0.0, 3.0, 0.0]]
    assert found.values.dtype == np.float32
    assert found.groups == (("table", 0, 4),)
    assert found.fingerprint == table_spec(2).fingerprint != table_spec(3).fingerprint


@pytest.mark.parametrize(
    ("table", "column", "words"),
    [
        (pictures(1), "image", "hold no table"),
        (np.array([[1.0, 1e300]]), "table", "column 1 holds values too large"),
        (np.zeros((1, 3)), "table", "3 columns where 2 were agreed"),
    ],
    ids=["images", "too large", "too many"],
)
def test_tables_that_cannot_be_read_are_refused(table: NDArray[Any], column: str, words: str) -> None:
    with pytest.raises(DataError, match=words):
        extract(cases(table, column), table_spec(2), Settings(backbone="table"))


# --- what is imported

_LIGHT = """
import sys
import numpy as np
sys.modules |= dict.fromkeys(("torch", "torchvision", "timm", "sklearn", "scipy", "flwr"))  # to import them fails
from medtl_core.config import Settings
from medtl_core.features.extract import extract, feature_spec
from medtl_core.values import Examples, Task
for name in ("lite0", "random:lite0", "random:resnet18", "table"):
    feature_spec(Settings(backbone=name), ("identity",))
settings = Settings(backbone="random:lite0", features="4+7", image_size=32, cache=sys.argv[1])
images = np.random.default_rng(0).integers(0, 256, (5, 40, 40, 3), dtype=np.uint8)
extract(Examples({"image": images}, Task("", ("a",))), feature_spec(settings, ("identity", "flip-h")), settings)
"""


def test_specifications_and_a_warm_cache_need_no_torch(tmp_path: Path) -> None:
    run(pictures(5), SMALL.replace(cache=str(tmp_path)))
    command = [sys.executable, "-W", "error", "-c", _LIGHT, str(tmp_path)]
    child = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert (child.returncode, child.stderr) == (0, "")
