"""What decides features: taps, fingerprints, and several backbones side by side."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import save_file

from medtl_core.backbones.networks import load_network
from medtl_core.backbones.zoo import find_backbone
from medtl_core.config import Settings
from medtl_core.errors import ConfigError, WeightsError
from medtl_core.features import extract as module
from medtl_core.features import spec as specs
from medtl_core.features.extract import extract, feature_spec
from medtl_core.features.spec import JoinedSpec
from medtl_core.values import Examples, Task

VIEWS = ("identity", "flip-h")
SQUEEZE = "random:squeezenet1_1"
PAIR = Settings(backbone=f"random:lite0+{SQUEEZE}", features=f"random:lite0:4+{SQUEEZE}:4", image_size=32)


pytestmark = pytest.mark.usefixtures("one_torch_thread")


def pictures(count: int) -> Examples:
    image = np.random.default_rng(0).integers(0, 256, (count, 40, 40, 3), dtype=np.uint8)
    text = np.array([f"p{number}" for number in range(count)])
    columns = {"label": np.zeros(count, np.int64), "patient": text, "site": text, "split": text, "image": image}
    return Examples(columns, Task("none", ("a", "b")))


def test_rich_plain_and_named_taps() -> None:
    rich = feature_spec(Settings(), VIEWS)
    assert (rich.taps, rich.pooling, rich.size, rich.views) == (("4", "7", "10"), "mean+std+centre", 128, VIEWS)
    assert rich.width == 696
    plain = feature_spec(Settings(features="plain"), VIEWS)
    assert (plain.taps, plain.pooling, plain.size, plain.views) == (("10",), "mean", 128, ("identity",))
    assert plain.groups == (("10", 0, 112),)
    named = feature_spec(Settings(features="10+4", image_size=96, views="one"), VIEWS)
    assert (named.taps, named.pooling, named.size, named.views) == (("4", "10"), "mean+std+centre", 96, ("identity",))
    assert feature_spec(Settings(), ()).views == ("identity",)
    before = feature_spec(Settings(features="rich@2"), VIEWS)
    assert (before.pooling, before.size, before.width, before.version) == ("mean+std", 224, 464, 2)


def test_every_setting_that_decides_features_is_in_the_fingerprint(monkeypatch: pytest.MonkeyPatch) -> None:
    both = Settings(backbone="random:lite0+random:resnet18")
    settings = [
        Settings(),
        Settings(features="plain"),
        Settings(features="4+10"),
        Settings(image_size=96),
        Settings(image_size="96+128"),
        Settings(image_size="128+96"),
        Settings(features="rich@2"),
        Settings(views="one"),
        Settings(backbone="random:lite0"),
        Settings(backbone="random:resnet18"),
        both,
        both.replace(features="plain"),
        both.replace(image_size=64),
        both.replace(views="one"),
        both.replace(backbone="random:resnet18+random:lite0"),
        both.replace(backbone="random:lite0+random:resnet34"),
    ]
    prints = [feature_spec(one, VIEWS).fingerprint for one in settings]
    prints.append(feature_spec(Settings(), (*VIEWS, "flip-v")).fingerprint)
    assert len(set(prints)) == len(prints)
    assert feature_spec(Settings(seed=4, shots=9, cache="off"), VIEWS).fingerprint == prints[0]
    monkeypatch.setattr(specs, "VERSION", specs.VERSION + 1)
    assert feature_spec(Settings(), VIEWS).fingerprint not in prints


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"backbone": "lite0", "features": "4+finale"}, "no tap 'finale'; did you mean 'final'"),
        ({"backbone": "lite0", "features": "ritch"}, "did you mean 'rich'"),
        ({"backbone": "lite0", "features": "4+4"}, "names a tap twice"),
        ({"backbone": "lite1"}, "did you mean 'lite0'"),
        ({"image_size": 31}, "image-size=31 must be from 32 to 2048"),
        ({"image_size": "64+31"}, "image-size=31 must be from 32 to 2048"),
        ({"features": "rich@1"}, "of the versions 2 to 3"),
        ({"backbone": "random:lite0+random:lite0"}, "names a backbone twice"),
        ({"backbone": "random:lite0+random:lite1"}, "did you mean 'lite0'"),
        ({"features": "4+10"}, "has no tap '4'"),
        ({"features": "random:lite1:4"}, "is of none of the backbones"),
        ({"features": "random:lite0:4"}, "names no tap of backbone 'random:resnet18'; leave it out"),
        ({"features": "rich+random:lite0:4"}, "names a tap twice"),
    ],
)
def test_refusals_name_the_nearest_word(changes: dict[str, Any], message: str) -> None:
    settings = Settings(backbone="random:lite0+random:resnet18").replace(**changes)
    with pytest.raises(ConfigError, match=message):
        feature_spec(settings, VIEWS)


def test_an_unknown_view_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(ConfigError, match="did you mean 'flip-h'"):
        feature_spec(Settings(), ("flip-hh",))


@pytest.mark.slow
def test_features_stand_side_by_side_and_each_backbone_has_its_own_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = PAIR.replace(cache=str(tmp_path))
    examples, spec = pictures(3), feature_spec(settings, VIEWS)
    joined = extract(examples, spec, settings)
    lite = settings.replace(backbone="random:lite0", features="4")
    squeeze = settings.replace(backbone=SQUEEZE, features="4")

    def refuse(*rest: Any) -> Any:
        raise AssertionError("an image ran through a backbone again")

    monkeypatch.setattr(module, "_computed", refuse)
    alone = [extract(examples, feature_spec(one, VIEWS), one).values for one in (lite, squeeze)]
    np.testing.assert_array_equal(joined.values, np.concatenate(alone, axis=1))
    assert joined.groups == (("random:lite0:4", 0, 120), (f"{SQUEEZE}:4", 120, 504))
    turned = settings.replace(backbone=f"{SQUEEZE}+random:lite0")
    other = extract(examples, feature_spec(turned, VIEWS), turned)  # another combination of the same rows
    np.testing.assert_array_equal(other.values, np.concatenate(alone[::-1], axis=1))
    assert other.fingerprint != joined.fingerprint


def test_words_go_for_each_backbone_or_for_one() -> None:
    both = "random:lite0+random:resnet18"
    rich = feature_spec(Settings(backbone=both), VIEWS)
    assert isinstance(rich, JoinedSpec)
    assert [record.taps for record in rich.records] == [("4", "7", "10"), ("layer2", "layer3")]
    assert rich.width == 696 + 1152 == rich.groups[-1][2]
    plain = feature_spec(Settings(backbone=both, features="plain"), VIEWS)
    assert [(name, stop) for name, _, stop in plain.groups] == [
        ("random:lite0:10", 112), ("random:resnet18:layer3", 368)
    ]  # fmt: skip
    mixed = feature_spec(Settings(backbone=both, features="random:lite0:rich+random:resnet18:layer4"), VIEWS)
    assert [name.rpartition(":")[2] for name, _, _ in mixed.groups] == ["4", "7", "10", "layer4"]


def test_weights_come_from_one_folder_for_all(tmp_path: Path) -> None:
    network, _ = load_network(find_backbone(SQUEEZE))
    place = tmp_path / "squeezenet1_1"
    place.mkdir()
    save_file({name: tensor.contiguous() for name, tensor in network.state_dict().items()}, place / "any.safetensors")
    settings = Settings(
        backbone="lite0+torchvision:squeezenet1_1", weights=str(tmp_path), features="plain", image_size=32, cache="off"
    )
    spec = feature_spec(settings, VIEWS)  # lite0 is not in the folder: its package has it
    values = extract(pictures(2), spec, settings).values
    assert values.shape == (2, 112 + 512)
    own = settings.replace(backbone="torchvision:squeezenet1_1", weights=str(place))
    np.testing.assert_array_equal(values[:, 112:], extract(pictures(2), feature_spec(own, VIEWS), own).values)
    with pytest.raises(WeightsError, match="the weights of 'torchvision:resnet18' are not here"):
        feature_spec(settings.replace(backbone="lite0+torchvision:resnet18"), VIEWS)
    with pytest.raises(WeightsError, match="must be a folder"):
        feature_spec(settings.replace(weights=str(place / "any.safetensors")), VIEWS)
    beside = own.replace(backbone="torchvision:squeezenet1_1+gabor", weights=str(place / "any.safetensors"))
    assert feature_spec(beside, VIEWS).width == 512 + 6  # a formula has no file, so this one is the other's


def test_a_bank_of_filters_tells_the_direction_and_the_place_of_a_wave_and_no_contrast() -> None:
    settings = Settings(backbone="gabor", views="one", cache="off")
    spec = feature_spec(settings, VIEWS)
    waves = np.rint(128 + 60 * np.sin(2.0 * np.arange(128))).astype(np.uint8)  # two radians a pixel
    upper = np.zeros((128, 128), np.uint8) + np.uint8(128)
    upper[:64] = waves  # along x, in the upper half
    turned, faint = np.ascontiguousarray(upper.T), (upper // 4 + 20).astype(np.uint8)
    cases = Examples({"image": np.stack([upper, turned, faint]), "label": np.zeros(3)}, Task("waves", ("a", "b")))
    rows = extract(cases, spec, settings).values[:, :216].reshape(3, 6, 6, 6)  # finest scale: direction, row, column
    assert spec.width == 864 and spec.groups[1] == ("1", 216, 432)
    np.testing.assert_array_equal(rows[:2].mean(axis=(2, 3)).argmax(axis=1), [0, 3])
    assert rows[0, 0, 1].min() > 20 * rows[0, 0, 4].max() and rows[1, 3, :, 1].min() > 20 * rows[1, 3, :, 4].max()
    np.testing.assert_allclose(rows[2], rows[0], atol=0.05)


def test_a_formula_is_read_at_the_first_size_and_alone_at_one() -> None:
    joined = feature_spec(Settings(backbone="random:lite0+gabor", image_size="64+96"), VIEWS)
    assert isinstance(joined, JoinedSpec)
    assert [(name, record.size) for name, record in zip(joined.names, joined.records, strict=True)] == [
        ("random:lite0@64", 64), ("random:lite0@96", 96), ("gabor", 64)
    ]  # fmt: skip
    with pytest.raises(ConfigError, match=r"image-size=64.96 has no effect"):
        feature_spec(Settings(backbone="gabor", image_size="64+96"), VIEWS)
    with pytest.raises(ConfigError, match="contradicts backbone 'gabor'"):
        feature_spec(Settings(backbone="gabor", weights="/somewhere"), VIEWS)
