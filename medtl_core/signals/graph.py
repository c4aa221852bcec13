"""`statistics` and `kernels` as torch modules, for files that other programs run, on signals of a fixed length."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import conv1d

from medtl_core.signals import statistics as formulas
from medtl_core.signals.kernels import Kernel, drawn
from medtl_core.signals.wave import Agreement


class Spectrum(nn.Module):
    """Features float32 [n, d] of signals float32 [n, t, leads]; spectra are products with sines and cosines.

    Attributes:
        shape: (t, leads) of one case.
    """

    def __init__(self, agreed: Agreement, taps: Sequence[str]) -> None:
        super().__init__()
        self.shape, self.taps = (agreed.samples, len(agreed.leads)), tuple(taps)
        length = min(formulas.WINDOW, agreed.samples)
        turns = np.arange(length)[:, None] * np.arange(length // 2 + 1) * (2 * np.pi / length)
        waves = np.concatenate([np.cos(turns), np.sin(turns)], axis=1) * np.hanning(length)[:, None] / length
        self.length, self.waves = length, torch.from_numpy(waves)
        edges = np.unique(np.rint(np.geomspace(1, length // 2 + 1, formulas.BANDS + 1)).astype(int))
        self.bands = list(pairwise(edges.tolist()))
        self.levels = torch.from_numpy(formulas._LEVELS)
        self.pairs = [*zip(*(index.tolist() for index in np.triu_indices(self.shape[1], 1)), strict=True)]

    def forward(self, given: Tensor) -> Tensor:
        """Returns the groups that are read, one behind the other."""
        waves = given.double()
        centred = waves - _quantile(waves, 0.5)[:, None]
        spread = _deviation(centred) + formulas._FLOOR
        unit = (centred - centred.mean(dim=1, keepdim=True)) / spread[:, None]
        levels = self._levels(waves, centred)
        single = [*levels.unbind(), *_shape(waves, centred, unit, spread), *self._bands(unit)]
        each = torch.stack([*(one / formulas._LOG for one in single[: len(levels)]), *single[len(levels) :]], dim=-1)
        hats = torch.exp(-0.5 * ((levels.movedim(0, -1)[..., None] - self.levels) / formulas._WIDTH) ** 2)
        own, pooled = [each.flatten(1)], [hats.mean(dim=1).flatten(1)]
        if self.pairs:
            products = unit.transpose(1, 2) @ unit / self.shape[0]
            together = torch.stack([products[:, one, other] for one, other in self.pairs], dim=1)
            own.append(together)
            pooled += [each.mean(dim=1), each.amax(dim=1), each.amin(dim=1), _deviation(each)]
            pooled += [torch.stack([_quantile(together, part) for part in np.linspace(0.0, 1.0, 9)], dim=1)]
        groups = {"pooled": torch.cat(pooled, dim=1), "leads": torch.cat(own, dim=1)}
        return torch.cat([groups[tap] for tap in self.taps], dim=1).float()

    @staticmethod
    def _levels(waves: Tensor, centred: Tensor) -> Tensor:
        steps, size = (waves[:, 1:] - waves[:, :-1]).abs(), centred.abs()
        sizes = [_deviation(centred), size.amax(dim=1), _quantile(size, 0.5)]
        sizes += [steps.amax(dim=1), steps.mean(dim=1), _quantile(steps, 0.5), waves.mean(dim=1).abs()]
        return torch.log(torch.stack(sizes) + formulas._FLOOR)

    def _bands(self, unit: Tensor) -> list[Tensor]:
        windows = unit.unfold(1, self.length, max(self.length // 2, 1))  # n, windows, leads, length
        spectra = windows @ self.waves
        count = self.length // 2 + 1
        power = spectra[..., :count].square() + spectra[..., count:].square()
        sums = [power[..., low:high].sum(dim=-1) for low, high in self.bands]
        logs = [torch.log(band + formulas._POWER) / formulas._LOG for band in sums]
        return [log.mean(dim=1) for log in logs] + [_deviation(log) for log in logs]


class Convolutions(nn.Module):
    """`kernels` as convolutions, those alike at once; float32 [n, 2 COUNT] of float32 [n, t, leads].

    Attributes:
        shape: (t, leads) of one case.
    """

    def __init__(self, agreed: Agreement) -> None:
        super().__init__()
        self.shape = (agreed.samples, len(agreed.leads))
        alike: dict[tuple[int, int, bool], list[tuple[int, Kernel]]] = {}
        for place, one in enumerate(drawn(*self.shape)):
            alike.setdefault((len(one.weight), one.dilation, one.padded), []).append((place, one))
        self.groups = list[tuple[Tensor, Tensor, int, int]]()
        for (length, dilation, padded), members in alike.items():
            weight = np.zeros((len(members), self.shape[1], length), np.float32)
            for row, (_, one) in enumerate(members):
                weight[row, one.leads] = one.mix[:, None] * one.weight
            bias = np.asarray([one.bias for _, one in members], np.float32)
            padding = (length - 1) * dilation // 2 if padded else 0
            self.groups.append((torch.from_numpy(weight), torch.from_numpy(bias), dilation, padding))
        order = [place for members in alike.values() for place, _ in members]
        self.order = torch.from_numpy(np.argsort(order))

    def forward(self, given: Tensor) -> Tensor:
        """Returns of each kernel the share of positive values and the logarithm of the maximum."""
        waves = given.double()
        unit = (waves - waves.mean(dim=1, keepdim=True)) / (_deviation(waves) + 1e-3)[:, None]
        series, shares, peaks = unit.float().transpose(1, 2), list[Tensor](), list[Tensor]()
        for weight, bias, dilation, padding in self.groups:
            values = conv1d(series, weight, bias, dilation=dilation, padding=padding)
            shares.append((values > 0).double().mean(dim=2))
            peaks.append(torch.log1p(values.amax(dim=2).clamp_min(0.0)).double())
        both = torch.stack([torch.cat(shares, dim=1), torch.cat(peaks, dim=1)], dim=2)[:, self.order]
        return both.flatten(1).float()


def _shape(waves: Tensor, centred: Tensor, unit: Tensor, spread: Tensor) -> list[Tensor]:
    """See `statistics._shape`."""
    still = (waves[:, 1:] == waves[:, :-1]).double().mean(dim=1)
    low, high = waves.amin(dim=1, keepdim=True), waves.amax(dim=1, keepdim=True)
    ends = ((waves == low) | (waves == high)).double().mean(dim=1)
    crossings = (unit[:, 1:] * unit[:, :-1] < 0).double().mean(dim=1)
    quantiles = [_quantile(centred, part) / spread for part in (0.01, 0.05, 0.25, 0.75, 0.95, 0.99)]
    cuts = torch.tensor_split(centred, formulas.PARTS, dim=1)
    parts = torch.stack([_deviation(part) for part in cuts], dim=1) + formulas._FLOOR
    usual, third = _quantile(parts, 0.5), (unit * unit * unit).mean(dim=1)
    moments = [torch.log1p(unit.square().square().mean(dim=1)), third.sign() * third.abs().pow(1 / 3)]
    steadiness = [_deviation(parts.log()), (parts.amax(dim=1) / usual).log(), (parts.amin(dim=1) / usual).log()]
    return [still, ends, crossings, *moments, *quantiles, *steadiness]


def _deviation(values: Tensor) -> Tensor:
    """The population's, over axis 1."""
    return (values - values.mean(dim=1, keepdim=True)).square().mean(dim=1).sqrt()


def _quantile(values: Tensor, part: float) -> Tensor:
    """As numpy's: linear between neighbours, over axis 1."""
    place = part * (values.shape[1] - 1)
    low = int(place)
    ordered = values.sort(dim=1).values
    if place == low:
        return ordered[:, low]
    return ordered[:, low] + (place - low) * (ordered[:, low + 1] - ordered[:, low])
