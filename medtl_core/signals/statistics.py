"""What a signal is like, by fixed formulas: level, shape, steadiness, spectrum, and how its leads go together."""

from collections.abc import Mapping
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]

#: Samples of a window of the short-time spectrum, its bands, and parts of a signal that are compared.
WINDOW, BANDS, PARTS = 256, 16, 10
#: Added to amplitudes, in the signal's unit (mV, g); and to the power of a band, of all the signal's.
_FLOOR, _POWER = 1e-3, 1e-4
#: Centres and width of the hats that tell which level an amplitude has: logarithms, from 0.001 to 150 units.
_LEVELS, _WIDTH = np.linspace(-7.0, 5.0, 9), 1.5
#: Divides logarithms, so that features are about one.
_LOG = 3.0


def statistics(waves: Float) -> Mapping[str, Float]:
    """Returns groups of features of signals [n, t, leads], float64 [n, d] each.

    "leads" are those of each lead and correlations between leads. "pooled" are their mean, extremes and spread over
    leads, where there are several, and how many leads have a level: a diagnosis may depend on one lead, a bad
    electrode is one of any.
    """
    centred = waves - np.median(waves, axis=1, keepdims=True)
    spread = centred.std(axis=1) + _FLOOR
    unit = (centred - centred.mean(axis=1, keepdims=True)) / spread[:, None]
    steps = np.abs(np.diff(waves, axis=1))
    sizes = [centred.std(axis=1), np.abs(centred).max(axis=1), np.median(np.abs(centred), axis=1)]
    sizes += [steps.max(axis=1), steps.mean(axis=1), np.median(steps, axis=1), np.abs(waves.mean(axis=1))]
    levels = np.log(np.stack(sizes) + _FLOOR)
    single = [*levels / _LOG, *_shape(waves, centred, unit, spread), *_bands(spectrogram(unit))]
    each = np.stack(single, axis=-1)
    own = [each.reshape(len(waves), -1)]
    hats = np.exp(-0.5 * ((np.moveaxis(levels, 0, -1)[..., None] - _LEVELS) / _WIDTH) ** 2)
    pooled = [hats.mean(axis=1).reshape(len(waves), -1)]
    if waves.shape[2] > 1:
        one, other = np.triu_indices(waves.shape[2], 1)
        together = (np.einsum("ntl,ntm->nlm", unit, unit) / waves.shape[1])[:, one, other]
        own.append(together)
        ranks = np.quantile(together, np.linspace(0.0, 1.0, 9), axis=1).T
        pooled += [each.mean(axis=1), each.max(axis=1), each.min(axis=1), each.std(axis=1), ranks]
    return {"pooled": np.concatenate(pooled, axis=1), "leads": np.concatenate(own, axis=1)}


def spectrogram(unit: Float) -> Float:
    """Returns the power of windows that overlap by half, [n, windows, frequencies, leads], of all the signal's."""
    length = min(WINDOW, unit.shape[1])
    windows = np.lib.stride_tricks.sliding_window_view(unit, length, axis=1)[:, :: max(length // 2, 1)]
    spectra = np.fft.rfft(windows * np.hanning(length), axis=3)
    return np.moveaxis(np.abs(spectra) ** 2 / (length * length), 3, 2)


def _shape(waves: Float, centred: Float, unit: Float, spread: Float) -> list[Float]:
    """Shares of samples that stand still or lie at an end, moments, crossings, quantiles, and steadiness over time."""
    still = (np.diff(waves, axis=1) == 0).mean(axis=1)
    low, high = waves.min(axis=1, keepdims=True), waves.max(axis=1, keepdims=True)
    ends = ((waves == low) | (waves == high)).mean(axis=1)
    crossings = (unit[:, 1:] * unit[:, :-1] < 0).mean(axis=1)
    quantiles = np.quantile(centred, (0.01, 0.05, 0.25, 0.75, 0.95, 0.99), axis=1) / spread
    parts = np.stack([part.std(axis=1) for part in np.array_split(centred, PARTS, axis=1)]) + _FLOOR
    usual = np.median(parts, axis=0)
    moments = [np.log1p((unit**4).mean(axis=1)), np.cbrt((unit**3).mean(axis=1))]
    steadiness = [np.log(parts).std(axis=0), np.log(parts.max(axis=0) / usual), np.log(parts.min(axis=0) / usual)]
    return [still, ends, crossings, *moments, *quantiles, *steadiness]


def _bands(power: Float) -> list[Float]:
    """Mean and spread over time of the logarithms of bands that widen with the frequency."""
    edges = np.unique(np.rint(np.geomspace(1, power.shape[2], BANDS + 1)).astype(int))
    bands = [power[:, :, low:high].sum(axis=2) for low, high in pairwise(edges.tolist())]
    logs = [np.log(band + _POWER) / _LOG for band in bands]
    return [log.mean(axis=1) for log in logs] + [log.std(axis=1) for log in logs]
