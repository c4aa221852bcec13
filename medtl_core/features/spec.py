"""What decides features, and nothing of where files lie: one backbone's record, or several backbones side by side."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from medtl_core.backbones.backbone import Backbone
from medtl_core.backbones.weights import in_folder, weights_sha
from medtl_core.backbones.zoo import find_backbone
from medtl_core.config import Settings
from medtl_core.data.views import VIEWS
from medtl_core.errors import ConfigError, WeightsError, did_you_mean
from medtl_core.values import digest

#: Raised when the same settings begin to give other features; it is part of every fingerprint.
VERSION = 2
#: Side of "plain" features; enough for one middle tap, and a third of the pixels of 224.
_PLAIN_SIZE = 128
_SMALLEST, _LARGEST = 32, 2048

#: Settings that decide features; with the data set's views, a manifest keeps them under "features".
FEATURE_SETTINGS = ("backbone", "features", "image_size", "views")

Groups = tuple[tuple[str, int, int], ...]


@final
@dataclass(frozen=True)
class FeatureSpec:
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
        """SHA-256 of the record: equal fingerprints mean that features may be mixed."""
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

    @property
    def width(self) -> int:
        """Number of features d."""
        return self.groups[-1][2]

    def parts(self, settings: Settings) -> Sequence[tuple["FeatureSpec", Settings]]:
        """Returns one record a backbone, with the settings under which it is read; they are cached one by one."""
        return [(self, settings)]


@final
@dataclass(frozen=True)
class JoinedSpec:
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
        """(backbone:tap, start, stop) of each tap's columns."""
        groups, start = [], 0
        for name, record in zip(self.names, self.records, strict=True):
            groups += [(f"{name}:{tap}", start + first, start + last) for tap, first, last in record.groups]
            start += record.width
        return tuple(groups)

    @property
    def width(self) -> int:
        """Number of features d."""
        return sum(record.width for record in self.records)

    def parts(self, settings: Settings) -> Sequence[tuple[FeatureSpec, Settings]]:
        """See FeatureSpec."""
        return [
            (record, settings.replace(backbone=name, weights=_weights_of(name, settings.weights)))
            for name, record in zip(self.names, self.records, strict=True)
        ]


#: Everything that decides the features of a case.
Spec = FeatureSpec | JoinedSpec


def feature_spec(settings: Settings, entry_views: tuple[str, ...], columns: int = 0) -> Spec:
    """Returns what the settings mean for a data set, without running or importing torch.

    "rich" joins the backbone's middle taps by mean and standard deviation over its views at full size; "plain" is one
    tap, its mean, one view, 128 pixels; "4+10" names taps, otherwise as "rich".

    `backbone` may join several with "+": their features stand side by side. `features` then goes for each of them; a
    word such as "lite0:4" goes for one. `weights` is then a folder (see `weights.in_folder`); what it lacks is looked
    for where the backbone's record says.

    Args:
        settings: `backbone`, `weights`, `features`, `image_size` and `views` are read.
        entry_views: label-preserving views of the data set, from its catalog entry.
        columns: of the table, if `backbone` is "table".

    Raises:
        ConfigError: a backbone, tap or view is unknown, or the images would be too small.
        WeightsError: the weights are not on this machine.
    """
    names = tuple(settings.backbone.split("+"))
    if len(names) == 1:
        return backbone_spec(settings, entry_views, columns)
    if "table" in names:
        raise ConfigError(f"backbone={settings.backbone!r}: a table has no backbone to join; name image backbones only")
    if len(set(names)) != len(names):
        raise ConfigError(f"backbone={settings.backbone!r} names a backbone twice")
    words = [word.rpartition(":") for word in settings.features.split("+")]
    strange = [backbone for backbone, _, _ in words if backbone and backbone not in names]
    if strange:
        raise ConfigError(f"features={settings.features!r}: {strange[0]!r} is of none of the backbones {list(names)}")
    records = []
    for name in names:
        mine = [tap for backbone, _, tap in words if backbone in ("", name)]
        if not mine:
            raise ConfigError(f"features={settings.features!r} names no tap of backbone {name!r}; leave it out")
        chosen = {"backbone": name, "features": "+".join(mine), "weights": _weights_of(name, settings.weights)}
        records.append(backbone_spec(settings.replace(**chosen), entry_views))
    return JoinedSpec(names, tuple(records))


def backbone_spec(settings: Settings, entry_views: tuple[str, ...], columns: int = 0) -> FeatureSpec:
    """Returns `feature_spec` of a single backbone."""
    if settings.backbone == "table":
        return FeatureSpec("table", "", ("table",), (2 * columns,), "mean", 0, (), (), ())
    backbone = find_backbone(settings.backbone)
    plain = settings.features == "plain"
    size = settings.image_size or (_PLAIN_SIZE if plain else backbone.size)
    if not _SMALLEST <= size <= _LARGEST:
        raise ConfigError(
            f"image-size={size} must be from {_SMALLEST} to {_LARGEST}; a backbone takes no other picture"
        )
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
    """Returns what a manifest must say of settings and a data set's views, so that others make the same features."""
    return {**{name: getattr(settings, name) for name in FEATURE_SETTINGS}, "entry_views": list(views)}


def _weights_of(name: str, weights: str) -> str:
    """Where the weights of one of several backbones are: in the folder for all, or "", the record's own place."""
    if not weights:
        return ""
    folder, backbone = Path(weights).expanduser(), find_backbone(name)
    if not folder.is_dir():
        raise WeightsError(f"weights={weights!r} must be a folder that holds a file for each of the backbones joined")
    return weights if backbone.source not in ("random", "file") and in_folder(backbone, folder) else ""


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
