"""The built-in signals: electrocardiograms of five invented hospitals, vibration of four invented machines; computed.

They exist so that everything runs without data. Results on them say nothing about patients or machines.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medtl_core.config import Settings
from medtl_core.data.catalog import Entry, catalog
from medtl_core.rng import stream
from medtl_core.values import Examples

Float = NDArray[np.float64]
#: Waves of a beat: seconds from its peak, height in mV, width in seconds.
_NORMAL = ((-0.18, 0.12, 0.03), (-0.03, -0.1, 0.012), (0.0, 1.0, 0.014), (0.03, -0.2, 0.014), (0.25, 0.3, 0.05))
_PREMATURE = ((-0.02, 1.0, 0.035), (0.3, -0.3, 0.07))
#: Training cases of a hospital or machine, and those that are held out.
TRAIN, HELD_OUT = 80, 40


@dataclass(frozen=True)
class Drawing:
    """A set of signals.

    Attributes:
        rate: in Hz.
        samples: of each signal.
        sites: what is peculiar to each.
        draw: from a random stream, the class, what is peculiar and the time in seconds [t].
    """

    rate: float
    samples: int
    sites: Mapping[str, float]
    draw: Callable[[np.random.Generator, int, float, Float], Float]


def made(settings: Settings) -> Examples:
    """Returns the set that settings name, with cases enough for their hospitals: see `built_in.BUILT_IN`."""
    entry = catalog()[settings.data]
    return drawn(entry, max(TRAIN, settings.shots * -(-settings.sites // len(_DRAWINGS[entry.name].sites))))


def drawn(entry: Entry, train: int = TRAIN) -> Examples:
    """Returns `train` training cases of every site and some that are held out, half of them of either class.

    A set with more cases begins with those of one with fewer.
    """
    drawing, rows, waves = _DRAWINGS[entry.name], [], []
    time = np.arange(drawing.samples) / drawing.rate
    for place, peculiar in drawing.sites.items():
        for number in range(HELD_OUT + train):
            told, dice = number % 2, stream(0, entry.name, place, number)
            waves.append(drawing.draw(dice, told, peculiar, time))
            rows.append((told, f"{place}-{number:04d}", place, "test" if number < HELD_OUT else "train"))
    label, patient, site, split = (np.asarray(column) for column in zip(*rows, strict=True))
    columns = {"label": label.astype(np.int64), "patient": patient, "site": site, "split": split}
    return Examples({**columns, "signal": np.stack(waves).astype(np.float32)[..., None]}, entry.task)


def _heart(dice: np.random.Generator, label: int, peculiar: float, time: Float) -> Float:
    """Beats as sums of Gaussian waves (P, Q, R, S, T), in mV; a premature one comes early, wide and without P wave.

    After the model of McSharry, Clifford, Tarassenko, Smith (IEEE Trans. Biomed. Eng. 2003), without its dynamics.
    """
    beats = np.cumsum(dice.normal(0.8, 0.08, 14)) - 0.4
    early = dice.choice(np.arange(2, 8), 1) if label else ()
    wave, gain = np.zeros(len(time)), peculiar * dice.lognormal(0.0, 0.2)
    for number, beat in enumerate(beats):
        parts = _PREMATURE if number in early else _NORMAL
        for place, height, width in parts:
            wave += height * np.exp(-0.5 * ((time - beat + 0.25 * (number in early) - place) / width) ** 2)
    drift = 0.15 * np.sin(2 * np.pi * (dice.uniform(0.15, 0.4) * time + dice.uniform()))
    return gain * wave + drift + dice.normal(0.0, 0.2 / peculiar, len(time))


def _bearing(dice: np.random.Generator, label: int, peculiar: float, time: Float) -> Float:
    """Vibration in g: shaft harmonics and noise; a faulty outer race rings at every pass of a ball.

    After the model of McFadden, Smith (J. Sound Vib. 1984): impulses that excite a resonance; `peculiar` scales the
    shaft's speed and the load.
    """
    shaft = 25.0 * peculiar
    wave = sum(dice.normal(0.0, 0.3) * np.sin(2 * np.pi * (k * shaft * time + dice.uniform())) for k in (1, 2, 3))
    wave = wave + dice.normal(0.0, 0.5 * peculiar, len(time))
    if label:
        period = 1.0 / (3.57 * shaft)
        start = dice.uniform(0, period)
        for strike in np.arange(start, time[-1], period) + dice.normal(0, 0.01 * period):
            after = np.clip(time - strike, 0.0, None)
            wave += (time >= strike) * dice.normal(0.8, 0.2) * np.exp(-900 * after) * np.sin(2 * np.pi * 2800 * after)
    return np.asarray(wave, np.float64)


_DRAWINGS: Mapping[str, Drawing] = {
    "heartbeats": Drawing(100.0, 800, {"east": 1.0, "north": 0.7, "south": 1.3, "west": 0.9, "centre": 1.1}, _heart),
    "bearings": Drawing(12_000.0, 2048, {"fan": 0.8, "mill": 1.0, "pump": 1.2, "press": 1.5}, _bearing),
}
