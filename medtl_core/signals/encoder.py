"""Signals as features: `backbone=signal:spectrum`, `signal:kernels`, or an image backbone on the spectrogram.

Nothing is learnt from cases: formulas and constants are fixed, and stand with the leads in the features' fingerprint.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from medtl_core.config import Settings
from medtl_core.errors import ConfigError, DataError, did_you_mean
from medtl_core.features.encoders import CaseEncoder, Encoding
from medtl_core.features.extract import extract
from medtl_core.features.spec import FeatureSpec, backbone_spec
from medtl_core.signals.kernels import kernels
from medtl_core.signals.statistics import spectrogram, statistics
from medtl_core.signals.wave import SUFFIXES, Agreement, agree, read_wave
from medtl_core.values import Array, Examples, Task, digest

if TYPE_CHECKING:
    from medtl_core.signals.graph import Convolutions, Spectrum

#: Raised when the same signal begins to give other features.
VERSION = 1
#: Encoders whose features are formulas.
FORMULAS = ("spectrum", "kernels")
#: Spans of time that an explanation tells apart.
SPANS = 20
_NOBODY = Task("signals", ("no", "yes"))
#: Cases that are worked on at once; a picture's range of logarithms of power.
_AT_ONCE, _RANGE = 64, (-9.0, 0.0)


class Signals1D(CaseEncoder):
    """Features of signals [t, leads] of an agreed rate, length and order of leads."""

    column: ClassVar[str] = "signal"

    def encoding(self, settings: Settings, columns: Sequence[str]) -> Encoding:
        """See `CaseEncoder`. `features` is "rich" (all groups), "plain" (the first, pooled over leads) or names groups.

        Raises:
            ConfigError: the cases hold no signals, or there is no such encoder or group.
        """
        agreed, name = Agreement.of(columns), _name(settings)
        if name not in FORMULAS:
            spec = _picture_spec(settings)
            shown = [spec.fingerprint, VERSION, *agreed.columns]
            return Encoding(digest(shown), spec.taps, tuple(stop - start for _, start, stop in spec.groups))
        blank = np.zeros((1, min(agreed.samples, 1 << 16), len(agreed.leads)))
        groups = _groups(name, blank)
        words = {"rich": list(groups), "plain": list(groups)[:1]}
        asked = {tap for word in settings.features.partition("@")[0].split("+") for tap in words.get(word, [word])}
        for tap in asked:
            if tap not in groups:
                raise ConfigError(f"features={tap!r} is no group of signal:{name}; {did_you_mean(tap, list(groups))}")
        taps = tuple(tap for tap in groups if tap in asked)
        return Encoding(digest([name, VERSION, *agreed.columns]), taps, tuple(groups[tap].shape[1] for tap in taps))

    def blank(self, columns: Sequence[str]) -> Array:
        """See `CaseEncoder`."""
        agreed = Agreement.of(columns)
        return np.zeros((1, agreed.samples, len(agreed.leads)), np.float32)

    def rows(self, cases: Examples, encoding: Encoding, settings: Settings) -> NDArray[np.float32]:
        """See `CaseEncoder`."""
        name, waves = _name(settings), np.asarray([*cases[self.column]], np.float64)
        if not np.isfinite(waves).all():
            raise DataError("a signal has gaps")
        parts = [waves[first : first + _AT_ONCE] for first in range(0, len(waves), _AT_ONCE)]
        if name not in FORMULAS:
            found = [_of_pictures(part, settings) for part in parts]
        else:
            found = [_joined(_groups(name, part), encoding.taps) for part in parts]
        return np.concatenate([np.zeros((0, sum(encoding.channels)), np.float32), *found])

    def opened(self, places: Sequence[Path], columns: Sequence[str]) -> Iterator[tuple[str, NDArray[np.float32], str]]:
        """See `CaseEncoder`: files of signals, and those of folders."""
        agreed, gap = Agreement.of(columns), np.zeros((0, 0), np.float32)
        for place in places:
            files = [file for file in sorted(place.rglob("*")) if file.suffix.lower() in SUFFIXES]
            for file in files if place.is_dir() else [place]:
                try:
                    yield str(file), agree(read_wave(file), agreed), ""
                except DataError as error:
                    yield str(file), gap, str(error).removeprefix(f"{file}: ")
            if place.is_dir() and not files:
                raise DataError(f"no signal in {place}; name files that end in {', '.join(SUFFIXES)}")

    def parts(self, case: Array, weight: Array, settings: Settings) -> Sequence[tuple[str, float]]:
        """See `CaseEncoder`: what each of `SPANS` spans of time adds, by putting a straight line in its place.

        Formulas over time do not split into sums of spans: the figures are differences, one span at a time (occlusion,
        Zeiler, Fergus 2014), and need not add up.
        """
        wave = np.asarray(case, np.float64)
        edges = np.unique(np.linspace(0, len(wave), SPANS + 1).astype(int)).tolist()
        spans, hidden = list(pairwise(edges)), [wave]
        for start, stop in spans:
            flat = wave.copy()
            flat[start:stop] = np.linspace(wave[max(start - 1, 0)], wave[min(stop, len(wave) - 1)], stop - start)
            hidden.append(flat)
        columns = [f"signal:{lead}@1x{len(wave)}" for lead in range(wave.shape[1])]
        cases = Examples({"label": np.zeros(len(hidden), np.int64), "signal": np.stack(hidden)}, _NOBODY)
        scores = self.rows(cases, self.encoding(settings, columns), settings) @ weight
        names = (f"{100 * start // len(wave)}-{100 * stop // len(wave)} % of the time" for start, stop in spans)
        return list(zip(names, (scores[0] - scores[1:]).tolist(), strict=True))

    def graph(self, settings: Settings, columns: Sequence[str]) -> "Spectrum | Convolutions | None":
        """Returns the formulas as a torch module; None of pictures, which are drawn and resized outside of a graph."""
        if _name(settings) not in FORMULAS:
            return None
        from medtl_core.signals.graph import Convolutions, Spectrum

        agreed = Agreement.of(columns)
        if _name(settings) == "kernels":
            return Convolutions(agreed)
        return Spectrum(agreed, self.encoding(settings, columns).taps)


def _name(settings: Settings) -> str:
    name = settings.backbone.partition(":")[2]
    if not name:
        raise ConfigError(f"backbone={settings.backbone!r}: name an encoder, e.g. signal:spectrum")
    return name


def _groups(name: str, waves: NDArray[np.float64]) -> Mapping[str, NDArray[np.float64]]:
    return statistics(waves) if name == "spectrum" else {"kernels": kernels(waves)}


def _joined(groups: Mapping[str, NDArray[np.float64]], taps: Sequence[str]) -> NDArray[np.float32]:
    return np.concatenate([groups[tap] for tap in taps], axis=1).astype(np.float32)


def _picture_settings(settings: Settings) -> Settings:
    sizes = settings.sizes[:1] or (128,)
    return settings.replace(backbone=_name(settings), image_size=sizes[0], views="one", cache="off")


def _picture_spec(settings: Settings) -> FeatureSpec:
    return backbone_spec(_picture_settings(settings), ())


def _of_pictures(waves: NDArray[np.float64], settings: Settings) -> NDArray[np.float32]:
    """Features of spectrograms as pictures: leads one below the other, low frequencies above."""
    unit = (waves - waves.mean(axis=1, keepdims=True)) / (waves.std(axis=1, keepdims=True) + 1e-3)
    power = np.log(spectrogram(unit) + np.exp(_RANGE[0]))  # n, windows, frequencies, leads
    grey = np.clip((power - _RANGE[0]) / (_RANGE[1] - _RANGE[0]), 0.0, 1.0) * 255
    upright = np.moveaxis(grey, (3, 2, 1), (1, 2, 3)).reshape(len(waves), -1, grey.shape[1])
    pictures = np.repeat(np.rint(upright).astype(np.uint8)[..., None], 3, axis=3)
    cases = Examples({"label": np.zeros(len(waves), np.int64), "image": pictures}, _NOBODY)
    return extract(cases, _picture_spec(settings), _picture_settings(settings)).values


ENCODER = Signals1D()
