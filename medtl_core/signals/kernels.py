"""Random convolution kernels: of each the share of positive values and the maximum.

Source: Dempster, Petitjean, Webb: ROCKET. Data Mining and Knowledge Discovery 34 (2020).
"""

import numpy as np
from numpy.typing import NDArray

from medtl_core.rng import stream

Float = NDArray[np.float64]
COUNT = 500


def kernels(waves: Float) -> Float:
    """Returns two features of each kernel, of signals [n, t, leads] with unit spread, float64 [n, 2 COUNT].

    As there: 7, 9 or 11 normal weights of mean zero, a bias from -1 to 1, a dilation whose logarithm is evenly spread,
    padding or none. Of several leads each kernel reads some, added with normal weights of their own. The maximum is
    kept by its logarithm.
    """
    unit = (waves - waves.mean(axis=1, keepdims=True)) / (waves.std(axis=1, keepdims=True) + 1e-3)
    unit, rows = unit.astype(np.float32), []
    dice, (_, time, leads) = stream(0, "signal-kernels"), unit.shape
    for _ in range(COUNT):
        length = min(int(dice.choice((7, 9, 11))), time)
        weight = dice.standard_normal(length).astype(np.float32)
        weight -= weight.mean()
        dilation = int(2 ** dice.uniform(0.0, max(np.log2((time - 1) / max(length - 1, 1)), 0.0)))
        reach, bias = (length - 1) * dilation, np.float32(dice.uniform(-1.0, 1.0))
        some = dice.permutation(leads)[: int(2 ** dice.uniform(0.0, np.log2(min(leads, length) + 1)))]
        series = unit[:, :, some] @ (dice.standard_normal(len(some)) / np.sqrt(len(some))).astype(np.float32)
        if dice.integers(2):
            series = np.pad(series, ((0, 0), (reach // 2, reach // 2)))
        steps = series.shape[1] - reach
        values = bias + sum(weight[k] * series[:, k * dilation : k * dilation + steps] for k in range(length))
        rows += [(values > 0).mean(axis=1), np.log1p(np.maximum(values.max(axis=1), 0.0))]
    return np.stack(rows, axis=1).astype(np.float64)
