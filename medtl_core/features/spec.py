"""What decides features, and nothing of where files lie: one record, or several side by side.

Side by side stand several backbones of any kinds, and one backbone at several sizes.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

from medtl_core.backbones.backbone import Backbone, features_of
from medtl_core.backbones.weights import in_folder, weights_sha
from medtl_core.backbones.zoo import find_backbone
from medtl_core.config import Settings, Value, kind_of
from medtl_core.data.views import VIEWS
from medtl_core.errors import ConfigError, WeightsError, did_you_mean
from medtl_core.features.encoders import encoder_of
from medtl_core.store import expanded
from medtl_core.values import digest

#: Raised when the same settings begin to give other features; it is part of every fingerprint. `features=rich@2` gives
#: those that the settings gave in version 2, which heads of that time read.
VERSION = 3
#: The first version that is still made.
_FIRST = 2
#: (version, architecture) -> side that "rich" implied where it was not the backbone's own of today.
_SIDE = {(_FIRST, "tf_efficientnet_lite0"): 224}
#: Views that data sets did not name then.
_LATER = ("rotate-90", "rotate-180", "rotate-270", "transverse")
#: Side of "plain" features; enough for one middle tap, and a third of the pixels of 224.
_PLAIN_SIZE = 128
_SMALLEST, _LARGEST = 32, 2048

#: Settings that decide features; with the data set's views, a manifest keeps them under "features".
FEATURE_SETTINGS = ("backbone", "features", "image_size", "views")

Groups = tuple[tuple[str, int, int], ...]


@final
@dataclass(frozen=True)
class FeatureSpec:
    """Everything that decides the features of a case under one backbone; without images, size and views are empty.

    Attributes:
        backbone: architecture, e.g. "timm:tf_efficientnet_lite0"; or the setting's own word, e.g. "table".
        weights_sha: names the weights, or what stands for them: an `Encoding.sha`.
        taps: in order of depth.
        channels: of each tap.
        pooling: of a tap over its positions: "mean", "mean+std", "mean+std+centre" or "grid"; see `backbones.taps`.
        size: side of the square input in pixels.
        mean, std: of the normalisation.
        views: names of the views whose features are averaged.
        version: of the features.
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
    version: int = VERSION

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the record: equal fingerprints mean that features may be mixed."""
        return digest(vars(self))

    @property
    def groups(self) -> Groups:
        """(tap, start, stop) of each tap's columns: its means, then its standard deviations, then its centre means."""
        groups, start = [], 0
        for tap, channels in zip(self.taps, self.channels, strict=True):
            stop = start + features_of(tap, channels, self.pooling)
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
    """Several records side by side: their features one after the other, each group named "NAME:TAP".

    Attributes:
        names: of the records: a backbone as the setting has it, with "@SIZE" behind where it is read at several sizes.
        backbones: of the records, as the setting has them.
        records: their own.
    """

    names: tuple[str, ...]
    backbones: tuple[str, ...]
    records: tuple[FeatureSpec, ...]

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the records' fingerprints and their order."""
        return digest({"joined": [record.fingerprint for record in self.records]})

    @property
    def groups(self) -> Groups:
        """(name:tap, start, stop) of each tap's columns."""
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
            (record, settings.replace(backbone=name, weights=_weights_of(name, settings)))
            for name, record in zip(self.backbones, self.records, strict=True)
        ]


#: Everything that decides the features of a case.
Spec = FeatureSpec | JoinedSpec


def feature_spec(settings: Settings, entry_views: tuple[str, ...], columns: Sequence[str] = ()) -> Spec:
    """Returns what the settings mean for a data set, without running or importing torch.

    "rich" joins the backbone's middle taps by mean, standard deviation and centre mean over its views; "plain" is one
    tap, its mean, one view, 128 pixels; "4+10" names taps, otherwise as "rich".

    `backbone` may join several with "+", and `image_size` several sizes: their features stand side
    by side; those of a formula, such as gabor, at the first size alone. `features` then goes for each backbone; a word
    such as "lite0:4" goes for one. `weights` is then a folder (see `weights.in_folder`); what it lacks is looked for
    where the backbone's record says.

    Args:
        settings: `backbone`, `weights`, `features`, `image_size` and `views` are read.
        entry_views: label-preserving views of the data set, from its catalog entry.
        columns: `Facts.columns` of the data.

    Raises:
        ConfigError: a backbone, tap or view is unknown, or the images would be too small.
        WeightsError: the weights are not on this machine.
    """
    names, sizes = settings.backbone.split("+"), settings.sizes
    if len(names) == 1 and len(sizes) < 2:
        return backbone_spec(settings, entry_views, columns)
    if len(set(names)) != len(names):
        raise ConfigError(f"backbone={settings.backbone!r} names a backbone twice")
    rows: list[tuple[str, str, FeatureSpec]] = []
    for chosen in _alone(settings, names):
        several = len(sizes) > 1 and kind_of(chosen.backbone) == "image" and _learnt(chosen.backbone)
        for size in sizes if several else sizes[:1] or (0,):
            record = backbone_spec(chosen.replace(image_size=size), entry_views, columns)
            rows.append((f"{chosen.backbone}@{size}" if several else chosen.backbone, chosen.backbone, record))
    if len(sizes) > 1 and len(rows) == len(names):
        raise ConfigError(f"image-size={settings.image_size} has no effect: {settings.backbone} is read at one size")
    labels, backbones, records = zip(*rows, strict=True)
    return JoinedSpec(labels, backbones, records)


def _alone(settings: Settings, names: Sequence[str]) -> Iterator[Settings]:
    """Yields the settings under which each of several backbones is read."""
    text, version = _versioned(settings.features)
    words = [word.rpartition(":") for word in text.split("+")]
    strange = [backbone for backbone, _, _ in words if backbone and backbone not in names]
    if strange:
        raise ConfigError(f"features={settings.features!r}: {strange[0]!r} is of none of the backbones {names}")
    for name in names:
        mine = [tap for backbone, _, tap in words if backbone in ("", name)]
        if not mine and kind_of(name) == "image":
            raise ConfigError(f"features={settings.features!r} names no tap of backbone {name!r}; leave it out")
        features = f"{'+'.join(mine)}@{version}"
        yield settings.replace(backbone=name, features=features, weights=_weights_of(name, settings))


def backbone_spec(settings: Settings, entry_views: tuple[str, ...], columns: Sequence[str] = ()) -> FeatureSpec:
    """Returns `feature_spec` of a single backbone at a single size."""
    features, version = _versioned(settings.features)
    if kind_of(name := settings.backbone) != "image":
        made = encoder_of(name).encoding(settings.replace(features=features), columns)
        sha = made.sha if version > _FIRST else ""
        return FeatureSpec(name, sha, made.taps, made.channels, "mean", 0, (), (), (), version)
    backbone = find_backbone(settings.backbone)
    plain = features == "plain"
    usual = _PLAIN_SIZE if plain else _SIDE.get((version, backbone.arch), backbone.size)
    size = next(iter(settings.sizes), usual)
    if not _SMALLEST <= size <= _LARGEST:
        raise ConfigError(f"image-size={size} must be from {_SMALLEST} to {_LARGEST}, which a backbone takes")
    views = ("identity",) if plain or settings.views == "one" or not entry_views else entry_views
    for view in views:
        if view not in VIEWS:
            raise ConfigError(f"view {view!r} is not known; {did_you_mean(view, VIEWS)}")
    if version == _FIRST:
        views = tuple(view for view in views if view not in _LATER)
    taps = _taps(backbone, features)
    return FeatureSpec(
        backbone=backbone.identity,
        weights_sha=weights_sha(backbone, settings.weights),
        taps=taps,
        channels=tuple(backbone.channels[tap] for tap in taps),
        pooling="mean" if plain else "mean+std" if version == _FIRST else backbone.pooling or "mean+std+centre",
        size=size,
        mean=backbone.mean,
        std=backbone.std,
        views=views,
        version=version,
    )


def _versioned(features: str) -> tuple[str, int]:
    """The words of the setting `features`, and the version that "@2" behind them asks for."""
    match = re.fullmatch(r"(.*)@(\d+)", features)
    if match is None:
        return features, VERSION
    if not _FIRST <= int(match[2]) <= VERSION:
        raise ConfigError(f"features={features!r}: this medtl makes features of the versions {_FIRST} to {VERSION}")
    return match[1], int(match[2])


def feature_facts(settings: Settings, views: Sequence[str]) -> dict[str, Any]:
    """Returns what a manifest must say of settings and a data set's views, so that others make the same features."""
    words, version = _versioned(settings.features)
    named = {name: getattr(settings, name) for name in FEATURE_SETTINGS}
    return {**named, "features": words, "version": version, "entry_views": list(views)}


def stated_settings(facts: Mapping[str, Any]) -> dict[str, Value]:
    """Returns the settings that a manifest's `feature_facts` state; before version 3 they stated none."""
    named = {name: facts[name] for name in FEATURE_SETTINGS}
    return {**named, "features": f"{named['features']}@{facts.get('version', _FIRST)}"}


def _learnt(backbone: str) -> bool:
    """Whether a backbone is no formula; a formula has no file, and scales of its own in place of several sizes."""
    return kind_of(backbone) != "image" or find_backbone(backbone).source != "formula"


def _weights_of(name: str, settings: Settings) -> str:
    """Where the weights of one of several backbones are: in the folder for all, or "", the record's own place."""
    weights = settings.weights if name != "table" and _learnt(name) else ""
    others = {*settings.backbone.split("+")} - {name, "table"}
    if not weights or not any(map(_learnt, others)) or kind_of(name) != "image":  # a single one may have a file
        return weights
    folder, backbone = expanded(weights), find_backbone(name)
    if not folder.is_dir():
        raise WeightsError(f"weights={weights!r} must be a folder that holds a file for each of the backbones joined")
    return weights if backbone.takes_weights and in_folder(backbone, folder) else ""


def _taps(backbone: Backbone, features: str) -> tuple[str, ...]:
    known = {"rich": backbone.rich, "plain": backbone.plain}
    asked = [tap for word in features.split("+") for tap in known.get(word, (word,))]
    for tap in asked:
        if tap not in backbone.taps:
            hint = did_you_mean(tap, ["rich", "plain", *backbone.taps])
            raise ConfigError(f"features={features!r}: backbone {backbone.name!r} has no tap {tap!r}; {hint}")
    if len(set(asked)) != len(asked):
        raise ConfigError(f"features={features!r} names a tap twice")
    return tuple(tap for tap in backbone.taps if tap in asked)
