"""A frozen backbone on a device: the views of pictures become rows of features, several in one pass."""

import logging
from functools import lru_cache
from threading import Lock
from typing import TYPE_CHECKING

from medtl_core.backbones.zoo import find_backbone
from medtl_core.data.views import normalised
from medtl_core.errors import WeightsError
from medtl_core.features.spec import FeatureSpec
from medtl_core.runtime import CPU, Processor

if TYPE_CHECKING:
    from torch import Tensor

    from medtl_core.backbones.extractor import Extractor

#: Pixels of a pass: on a processor so few that the maps stay in its cache and so many that its kernels are fed (five
#: rows of 224 pixels, sixteen of 128: a quarter less a row than in passes of four), on a GPU that it is busy.
_PIXELS = {"cpu": 1 << 18, "cuda": 1 << 24}
#: Pictures of a pass at most.
_MOST = {"cpu": 32, "cuda": 256}
_LOG = logging.getLogger("medtl")


class Forward:
    """Runs an extractor over pictures. Threads may share one.

    On a processor a picture's rows are the same bytes whatever else is read. Kernels add in another order for another
    number of pictures, but not at another place or beside others: so every pass has the same length, which follows from
    the size of the pictures alone, and a short one is filled up with blanks. A GPU's rows agree with a processor's to a
    thousandth of their spread; where its memory is short, passes are halved, and the rest runs on the processor.

    Attributes:
        batch: pictures of a full pass.
        fed: whether a device of its own computes, which other threads feed.
    """

    def __init__(self, name: str, weights: str, spec: FeatureSpec, processor: Processor) -> None:
        self._named, self._spec, self._processor = (name, weights), spec, processor
        with _LOADING:
            self._extractor = _loaded(name, weights, spec.weights_sha, spec.taps, spec.pooling, processor.place)
        self.fed = processor.kind == "cuda"
        pixels = len(spec.views) * spec.size**2
        self.batch = max(1, min(_PIXELS[processor.kind] // pixels, _MOST[processor.kind]))
        self._instead: Forward | None = None
        self._turn = Lock()

    def __call__(self, pixels: "Tensor") -> "Tensor":
        """Returns rows, float32 [p * v, d], of the views of pictures, one picture behind the other.

        Args:
            pixels: uint8 [p * v, s, s, 3].

        Raises:
            ConfigError: the backbone cannot read images of this size.
        """
        import torch

        length = self.batch * len(self._spec.views)  # another thread may meet the end of the memory meanwhile
        passes = [self._pass(some, length) for some in torch.split(pixels, length)]
        return passes[0] if len(passes) == 1 else torch.cat(passes)

    def _pass(self, pixels: "Tensor", length: int) -> "Tensor":
        import torch

        if self.fed:  # by several threads, of which one computes: they would wait for one another at every call
            with self._turn:
                return self._fitting(pixels)
        lacking = length - len(pixels)
        whole = torch.cat([pixels, pixels.new_zeros((lacking, *pixels.shape[1:]))]) if lacking else pixels
        return self._rows(whole)[: len(pixels)]

    def _fitting(self, pixels: "Tensor") -> "Tensor":
        """The rows from passes so short that the GPU's memory holds them, or from the processor."""
        from torch import OutOfMemoryError, cat, split

        if self._instead is not None:
            return self._instead(pixels)
        try:
            return self._rows(pixels)
        except OutOfMemoryError:
            half = len(pixels) // len(self._spec.views) // 2
        if not half:
            _LOG.warning("the GPU's memory holds not one picture of %d pixels; the CPU reads all", self._spec.size)
            self._instead = forward(*self._named, self._spec, CPU)
            return self._instead(pixels)
        if half < self.batch:
            self.batch = half
            _LOG.warning("the GPU's memory is short; %d pictures at a time from here on", half)
        return cat([self._fitting(some) for some in split(pixels, half * len(self._spec.views))])

    def _rows(self, pixels: "Tensor") -> "Tensor":
        import torch

        kind, half = self._processor.kind, self._processor.half
        with torch.inference_mode(), torch.autocast(kind, torch.bfloat16, enabled=half):
            there = pixels.to(self._processor.place)
            rows: Tensor = self._extractor(normalised(there, self._spec.mean, self._spec.std))
        return rows.float().cpu()


def load_agreed(
    name: str, weights: str, sha: str, taps: tuple[str, ...], pooling: str, place: str = "cpu"
) -> "Extractor":
    """Returns the extractor of a backbone's name and setting `weights`, loaded anew; the rest as in a `FeatureSpec`.

    Raises:
        WeightsError: the weights changed since `feature_spec`.
    """
    from medtl_core.backbones.extractor import load_extractor

    extractor = load_extractor(find_backbone(name), weights, taps, pooling)
    if extractor.sha not in ("", sha):
        raise WeightsError(f"the weights of backbone {name!r} changed while the run was starting; start it again")
    return extractor.to(place)


#: Loaded networks are pure functions of their names and stay for the process; threads that ask at once load one.
_LOADING = Lock()
_loaded = lru_cache(maxsize=4)(load_agreed)
forward = lru_cache(maxsize=8)(Forward)
