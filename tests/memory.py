"""Hospitals that answer in memory, without a network between them and the server."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from medtl_core.federation.hospitals import Cost, Failure, Hospitals, Reply, Request
from medtl_core.federation.registry import answer
from medtl_core.federation.tasks import SiteData
from medtl_core.rng import stream


class DirectHospitals(Hospitals):
    """Hospitals in this process: every task of the real client, none of the wire."""

    def __init__(self, sites: list[SiteData]) -> None:
        self.sites = {site.name: site for site in sorted(sites, key=lambda site: site.name)}
        self.asked: list[Request] = []
        self._costs: dict[str, Cost] = {}

    @property
    def weights(self) -> Mapping[str, int]:
        return {name: len(site.label) for name, site in self.sites.items()}

    def ask(self, request: Request) -> Iterator[Reply]:
        self.asked.append(request)
        label = request.phase or request.task
        for name, site in self.sites.items():
            if request.only is not None and name not in request.only:
                continue
            arrays = {**request.arrays, **(request.own(name) if request.own else {})}
            released = answer(request.task, site, arrays, request.config)
            for key, spec in request.expect.items():
                array = released.update.arrays[key]
                assert (array.shape, array.dtype.name) == (spec.shape, spec.dtype), key
            self._costs[label] = self._costs.get(label, Cost()) + Cost(bytes_up=1)
            yield Reply(name, released.update.arrays, released.metrics, len(site.label))

    @property
    def costs(self) -> Mapping[str, Cost]:
        return self._costs

    @property
    def history(self) -> Sequence[Mapping[str, Any]]:
        return ()

    @property
    def failures(self) -> tuple[Failure, ...]:
        return ()


def make_site(
    name: str, cases: int, *, width: int = 6, classes: int = 3, seed: int = 0, skew: int | None = None
) -> SiteData:
    """A hospital with Gaussian classes; `skew` = the only class it sees."""
    rng = stream(seed, "site", name)
    means = 1.5 * stream(seed, "means").standard_normal((classes, width))

    def draw(count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        label = np.full(count, skew) if skew is not None else rng.permutation(np.arange(count) % classes)
        values = means[label] + rng.standard_normal((count, width)) * np.linspace(0.5, 2.0, width) + 3.0
        return values.astype(np.float32), label.astype(np.int64), np.array([f"{name}-{i}" for i in range(count)])

    return SiteData(name, *draw(cases), *draw(20), classes, seed)
