"""What decides features, and nothing of where files lie: one backbone's record, or several backbones side by side."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from medtl_core.backbones.backbone import Backbone
from medtl_core.backbones.weights import check_early, locate, weights_sha
from medtl_core.backbones.zoo import BACKBONES, find_backbone
from medtl_core.config import Settings
from medtl_core.data.views import VIEWS
from medtl_core.errors import ConfigError, WeightsError, did_you_mean
from medtl_core.values import digest

#: Raised when the same settings begin to give other features; it is part of every fingerprint.
VERSION = 2
#: Side of "plain" features; enough for one middle tap, and a third of the pixels of 224.
_PLAIN_SIZE = 128
_SMALLEST = 32
_KINDS = ("random:", "file:", "own:", "timm:", "torchvision:")

#: Settings that decide features; with the data set's views, a manifest keeps them under "features".
FEATURE_SETTINGS = ("backbone", "features", "image_size", "views")

Groups = tuple[tuple[str, int, int], ...]


class Spec(ABC):
    """Everything that decides the features of a case."""

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """Equal fingerprints mean that features may be mixed."""

    @property
    @abstractmethod
    def groups(self) -> Groups:
        """(tap, start, stop) of each tap's columns, in order."""

    @abstractmethod
    def parts(self, settings: Settings) -> Sequence[tuple["FeatureSpec", Settings]]:
        """Returns one record a backbone, with the settings under which it is read; they are cached one by one."""

    @property
    def width(self) -> int:
        """Number of features d."""
        return self.groups[-1][2]


@final
@dataclass(frozen=True)
class FeatureSpec(Spec):
    """Everything that decides the features of an image under one backbone.

    Attributes:
        backbone: architecture, e.g. "timm:tf_efficientnet_lite0"; "table" for tables.
        weights_sha: names the weights.
        taps: in order of depth.
        channels: of each tap.
        pooling: "mean" or "mean+std" over the positions of a tap.
        size: side of the square input in pixels.
        mean, std: of the normalisation.
        views: names of the views whose features are averaged.
    """

    backbone: str
    weights_sha: str
    taps: tuple[str, ...]
    channels: tuple[int, ...]
    pooling: str
    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    views: tuple[str, ...]

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the record."""
        return digest({**vars(self), "version": VERSION})

    @property
    def groups(self) -> Groups:
        """(tap, start, stop) of each tap's columns: its means, then its standard deviations."""
        groups, start = [], 0
        for tap, channels in zip(self.taps, self.channels, strict=True):
            stop = start + channels * (2 if self.pooling == "mean+std" else 1)
            groups.append((tap, start, stop))
            start = stop
        return tuple(groups)

    def parts(self, settings: Settings) -> Sequence[tuple["FeatureSpec", Settings]]:
        """See Spec."""
        return [(self, settings)]


@final
@dataclass(frozen=True)
class JoinedSpec(Spec):
    """Several backbones side by side: their features one after the other, each group named "BACKBONE:TAP".

    Attributes:
        names: of the backbones, as the setting has them.
        records: one a backbone.
    """

    names: tuple[str, ...]
    records: tuple[FeatureSpec, ...]

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the records' fingerprints and their order."""
        return digest({"joined": [record.fingerprint for record in self.records]})

    @property
    def groups(self) -> Groups:
        """See Spec."""
        groups, start = [], 0
        for name, record in zip(self.names, self.records, strict=True):
            groups += [(f"{name}:{tap}", start + first, start + last) for tap, first, last in record.groups]
            start += record.width
        return tuple(groups)

    def parts(self, settings: Settings) -> Sequence[tuple[FeatureSpec, Settings]]:
        """See Spec."""
        return [
            (record, settings.replace(backbone=name, weights=_own_weights(name, settings.weights)))
            for name, record in zip(self.names, self.records, strict=True)
        ]


def feature_spec(settings: Settings, entry_views: tuple[str, ...], columns: int = 0) -> Spec:
    """Returns what the settings mean for a data set, without running or importing torch.

    "rich" joins the backbone's middle taps by mean and standard deviation over its views at full size; "plain" is one
    tap, its mean, one view, 128 pixels; "4+10" names taps, otherwise as "rich".

    `backbone` may join several with "+": their features stand side by side. `features` then goes for each of them; a
    word such as "lite0:4" or "torchvision:squeezenet1_1:rich" goes for one. `weights` is then a folder that holds each
    backbone's file under its own name, or in a folder of the architecture's name; what it lacks is looked for where
    the backbone's record says.

    Args:
        settings: `backbone`, `weights`, `features`, `image_size` and `views` are read.
        entry_views: label-preserving views of the data set, from its catalog entry.
        columns: of the table, if `backbone` is "table".

    Raises:
        ConfigError: a backbone, tap or view is unknown, or the images would be too small.
        WeightsError: the weights are not on this machine.
    """
    names = backbone_names(settings.backbone)
    if len(names) == 1:
        return backbone_spec(settings, entry_views, columns)
    if "table" in names:
        raise ConfigError(f"backbone={settings.backbone!r}: a table has no backbone to join; name image backbones only")
    if len(set(names)) != len(names):
        raise ConfigError(f"backbone={settings.backbone!r} names a backbone twice")
    words = settings.features.split("+")
    strange = [word for word in words if ":" in word and word.rpartition(":")[0] not in names]
    if strange:
        raise ConfigError(f"features={settings.features!r}: {strange[0]!r} is of none of the backbones {list(names)}")
    records = []
    for name in names:
        mine = [word.rpartition(":")[2] for word in words if ":" not in word or word.rpartition(":")[0] == name]
        if not mine:
            raise ConfigError(f"features={settings.features!r} names no tap of backbone {name!r}; leave it out")
        chosen = {"backbone": name, "features": "+".join(mine), "weights": _own_weights(name, settings.weights)}
        records.append(backbone_spec(settings.replace(**chosen), entry_views))
    return JoinedSpec(names, tuple(records))


def backbone_spec(settings: Settings, entry_views: tuple[str, ...], columns: int = 0) -> FeatureSpec:
    """Returns `feature_spec` of a single backbone."""
    if settings.backbone == "table":
        return FeatureSpec("table", "", ("table",), (2 * columns,), "mean", 0, (), (), ())
    check_early(settings.backbone, settings.weights)
    backbone = find_backbone(settings.backbone)
    plain = settings.features == "plain"
    size = settings.image_size or (_PLAIN_SIZE if plain else backbone.size)
    if size < _SMALLEST:
        raise ConfigError(f"image-size={size} is too small; a backbone needs at least {_SMALLEST} pixels")
    views = ("identity",) if plain or settings.views == "one" or not entry_views else entry_views
    for view in views:
        if view not in VIEWS:
            raise ConfigError(f"view {view!r} is not known; {did_you_mean(view, VIEWS)}")
    taps = _taps(backbone, settings.features)
    return FeatureSpec(
        backbone=backbone.identity,
        weights_sha=weights_sha(backbone, settings.weights),
        taps=taps,
        channels=tuple(backbone.channels[tap] for tap in taps),
        pooling="mean" if plain else "mean+std",
        size=size,
        mean=backbone.mean,
        std=backbone.std,
        views=views,
    )


def feature_facts(settings: Settings, views: Sequence[str]) -> dict[str, Any]:
    """Returns what a manifest must say so that another machine can make the same features.

    Args:
        settings: of the run.
        views: label-preserving views of its data set.
    """
    return {**{name: getattr(settings, name) for name in FEATURE_SETTINGS}, "entry_views": list(views)}


def backbone_names(setting: str) -> tuple[str, ...]:
    """Returns the backbones a setting joins with "+"; a "+" in the path of a "file:" backbone joins nothing.

    Example:
        >>> backbone_names("lite0+torchvision:squeezenet1_1")
        ('lite0', 'torchvision:squeezenet1_1')
        >>> backbone_names("file:/a+b.safetensors+lite0")
        ('file:/a+b.safetensors', 'lite0')
    """
    names: list[str] = []
    for word in setting.split("+"):
        own = word in BACKBONES or word.startswith(_KINDS)
        if names and names[-1].startswith("file:") and not own:
            names[-1] += f"+{word}"
        else:
            names.append(word)
    return tuple(names)


def _own_weights(name: str, weights: str) -> str:
    """Where a folder for several backbones holds the weights of one; "" = the record's own place."""
    if not weights:
        return ""
    folder, backbone = Path(weights).expanduser(), find_backbone(name)
    if not folder.is_dir():
        raise WeightsError(f"weights={weights!r} must be a folder that holds a file for each of the backbones joined")
    if backbone.source in ("random", "file"):
        return ""
    places = [folder / file for file in backbone.files if file]
    places += [folder / backbone.arch, folder / backbone.arch.removeprefix("tf_")]
    found = next((place for place in places if place.exists()), None)
    if found is not None:
        return str(found)
    try:
        locate(backbone)
    except WeightsError as error:
        raise WeightsError(f"{folder} has no folder {backbone.arch!r} with weights of {name!r}, and {error}") from error
    return ""


def _taps(backbone: Backbone, features: str) -> tuple[str, ...]:
    known = {"rich": backbone.rich, "plain": backbone.plain}
    asked = [tap for word in features.split("+") for tap in known.get(word, (word,))]
    for tap in asked:
        if tap not in backbone.taps:
            raise ConfigError(
                f"features={features!r}: backbone {backbone.name!r} has no tap {tap!r}; "
                f"{did_you_mean(tap, ['rich', 'plain', *backbone.taps])}"
            )
    if len(set(asked)) != len(asked):
        raise ConfigError(f"features={features!r} names a tap twice")
    return tuple(tap for tap in backbone.taps if tap in asked)
