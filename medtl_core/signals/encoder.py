"""Signals as features: `backbone=signal:spectrum`, or an image backbone on the spectrogram, `signal:NETWORK`.

Nothing is learnt from cases: formulas and constants are fixed, and stand with the leads in the features' fingerprint.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import ClassVar

import numpy as np

from medtl_core.config import Settings
from medtl_core.errors import ConfigError, DataError, did_you_mean
from medtl_core.features.encoders import CaseEncoder, Encoding
from medtl_core.features.extract import extract
from medtl_core.features.spec import backbone_spec
from medtl_core.formats.single import read_new
from medtl_core.signals.statistics import spectrogram, statistics
from medtl_core.signals.wave import SUFFIXES, Agreement, agree, read_wave
from medtl_core.values import Array, Examples, Task, digest

#: Raised when the same signal begins to give other features.
VERSION = 1
#: The encoder whose features are formulas.
SPECTRUM = "signal:spectrum"
#: Spans of time that an explanation tells apart; a picture's range of logarithms of power.
SPANS, _RANGE = 20, (-9.0, 0.0)
_NOBODY = Task("signals", ("no", "yes"))


class Signals1D(CaseEncoder):
    """Features of signals [t, leads] of an agreed rate, length and order of leads."""

    column: ClassVar[str] = "signal"

    def encoding(self, settings: Settings, columns: Sequence[str]) -> Encoding:
        """See `CaseEncoder`. Of formulas `features` is "rich", "plain" (what is pooled over leads) or names groups."""
        agreed = Agreement.of(columns)
        if settings.backbone != SPECTRUM:
            spec = backbone_spec(_of_pictures(settings), ())
            shown = [spec.fingerprint, VERSION, *agreed.columns]
            return Encoding(digest(shown), spec.taps, tuple(stop - start for _, start, stop in spec.groups))
        groups = statistics(np.zeros((1, min(agreed.samples, 1 << 16), len(agreed.leads))))
        words = {"rich": [*groups], "plain": [*groups][:1]}
        asked = {tap for word in settings.features.partition("@")[0].split("+") for tap in words.get(word, [word])}
        for tap in asked - groups.keys():
            raise ConfigError(f"features={tap!r} is no group of {SPECTRUM}; {did_you_mean(tap, [*groups])}")
        taps = tuple(tap for tap in groups if tap in asked)
        sha = digest(["spectrum", VERSION, *agreed.columns])
        return Encoding(sha, taps, tuple(groups[tap].shape[1] for tap in taps))

    def blank(self, columns: Sequence[str]) -> Array:
        """See `CaseEncoder`."""
        agreed = Agreement.of(columns)
        return np.zeros((1, agreed.samples, len(agreed.leads)), np.float32)

    def rows(self, cases: Examples, encoding: Encoding, settings: Settings) -> Array:
        """See `CaseEncoder`."""
        waves = np.asarray([*cases[self.column]], np.float64)
        if not np.isfinite(waves).all():
            raise DataError("a signal has gaps")
        if settings.backbone == SPECTRUM:
            groups = statistics(waves)
            return np.concatenate([groups[tap] for tap in encoding.taps], axis=1).astype(np.float32)
        shown, chosen = {"label": np.zeros(len(waves), np.int64), "image": pictures(waves)}, _of_pictures(settings)
        return extract(Examples(shown, _NOBODY), backbone_spec(chosen, ()), chosen).values

    def opened(self, places: Sequence[Path], columns: Sequence[str]) -> Iterator[tuple[str, Array, str]]:
        """See `CaseEncoder`: files of signals, and those of folders."""
        agreed = Agreement.of(columns)
        for place in places:
            yield from read_new(place, SUFFIXES, lambda file: agree(read_wave(file), agreed), np.zeros((0, 0)))

    def parts(self, case: Array, weight: Array, settings: Settings) -> Sequence[tuple[str, float]]:
        """See `CaseEncoder`: what each of `SPANS` spans of time adds, by putting a straight line in its place.

        Differences, one span at a time (occlusion, Zeiler, Fergus 2014), which need not add up.
        """
        wave = np.asarray(case, np.float64)
        edges = np.unique(np.linspace(0, len(wave), SPANS + 1).astype(int)).tolist()
        hidden = np.stack([wave] * len(edges))
        for flat, (start, stop) in zip(hidden[1:], pairwise(edges), strict=True):
            flat[start:stop] = np.linspace(wave[max(start - 1, 0)], wave[min(stop, len(wave) - 1)], stop - start)
        columns = [f"signal:{lead}@1x{len(wave)}" for lead in range(wave.shape[1])]
        cases = Examples({"label": np.zeros(len(hidden), np.int64), "signal": hidden}, _NOBODY)
        whole, *without = (self.rows(cases, self.encoding(settings, columns), settings) @ weight).tolist()
        names = (
            f"{100 * start // len(wave)}-{100 * stop // len(wave)} % of the time" for start, stop in pairwise(edges)
        )
        return [(name, whole - rest) for name, rest in zip(names, without, strict=True)]


def _of_pictures(settings: Settings) -> Settings:
    """The settings under which spectrograms are read."""
    name, size = settings.backbone.removeprefix("signal:"), next(iter(settings.sizes), 128)
    return settings.replace(backbone=name, image_size=size, views="one", cache="off")


def pictures(waves: Array) -> Array:
    """Returns spectrograms as pictures [n, h, w, 3]: leads one below the other, low frequencies above."""
    unit = (waves - waves.mean(axis=1, keepdims=True)) / (waves.std(axis=1, keepdims=True) + 1e-3)
    power = np.log(spectrogram(unit) + np.exp(_RANGE[0]))  # n, windows, frequencies, leads
    grey = np.clip((power - _RANGE[0]) / (_RANGE[1] - _RANGE[0]), 0.0, 1.0) * 255
    upright = np.moveaxis(grey, (3, 2, 1), (1, 2, 3)).reshape(len(waves), -1, grey.shape[1])
    return np.repeat(np.rint(upright).astype(np.uint8)[..., None], 3, axis=3)


ENCODER = Signals1D()
