"""Random convolution kernels: of each the share of positive values and the maximum.

Source: Dempster, Petitjean, Webb: ROCKET. Data Mining and Knowledge Discovery 34 (2020).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medtl_core.rng import stream

Float = NDArray[np.float64]
COUNT = 500


@dataclass(frozen=True)
class Kernel:
    """One kernel: weights of its steps in time, `dilation` apart, of the leads it reads, its bias, padded or not."""

    weight: NDArray[np.float32]
    dilation: int
    bias: np.float32
    leads: NDArray[np.int64]
    mix: NDArray[np.float32]
    padded: bool


def drawn(time: int, leads: int) -> Iterator[Kernel]:
    """Yields `COUNT` kernels for signals of so many samples and leads, always the same ones.

    As there: 7, 9 or 11 normal weights of mean zero, a bias from -1 to 1, a dilation whose logarithm is evenly spread,
    padding or none. Of several leads each kernel reads some, added with normal weights of their own.
    """
    dice = stream(0, "signal-kernels")
    for _ in range(COUNT):
        length = min(int(dice.choice((7, 9, 11))), time)
        weight = dice.standard_normal(length).astype(np.float32)
        weight -= weight.mean()
        dilation = int(2 ** dice.uniform(0.0, max(np.log2((time - 1) / max(length - 1, 1)), 0.0)))
        bias = np.float32(dice.uniform(-1.0, 1.0))
        some = dice.permutation(leads)[: int(2 ** dice.uniform(0.0, np.log2(min(leads, length) + 1)))]
        mix = (dice.standard_normal(len(some)) / np.sqrt(len(some))).astype(np.float32)
        yield Kernel(weight, dilation, bias, some, mix, bool(dice.integers(2)))


def kernels(waves: Float) -> Float:
    """Returns two features of each kernel, of signals [n, t, leads] with unit spread, float64 [n, 2 COUNT].

    The maximum is kept by its logarithm.
    """
    unit = (waves - waves.mean(axis=1, keepdims=True)) / (waves.std(axis=1, keepdims=True) + 1e-3)
    unit, rows = unit.astype(np.float32), []
    for one in drawn(*unit.shape[1:]):
        length, dilation = len(one.weight), one.dilation
        reach, series = (length - 1) * dilation, unit[:, :, one.leads] @ one.mix
        if one.padded:
            series = np.pad(series, ((0, 0), (reach // 2, reach // 2)))
        steps = series.shape[1] - reach
        values = one.bias + sum(one.weight[k] * series[:, k * dilation : k * dilation + steps] for k in range(length))
        rows += [(values > 0).mean(axis=1), np.log1p(np.maximum(values.max(axis=1), 0.0))]
    return np.stack(rows, axis=1).astype(np.float64)
