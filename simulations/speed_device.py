"""Extraction on this machine's device over the best plain torch loop there: `python -m simulations.speed device`.

Plain loops upload a batch, normalise it on the device and run the same network in float32, one batch after the other;
the fastest batch counts. Ours is `features.extract.extract` without a cache, decoding included.
"""

import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from medtl_core.backbones.extractor import Extractor
_Line = TypeVar("_Line")
_SIZE = 224
#: Images that are worth a GPU, what a CPU is given in their stead, and what the CPU checks of a GPU's.
_MANY, _FEW, _CHECKED = 10_000, 48, 64


def device(
    line: Callable[[str, float, str, str], _Line], word: str = "auto", size: int = _SIZE, few: int = _FEW
) -> list[_Line]:
    """Measures a device, and makes lines of it: name, value, goal, detail. Without a GPU few images do."""
    from medtl_core.backbones.extractor import load_extractor
    from medtl_core.backbones.zoo import find_backbone
    from medtl_core.config import Settings
    from medtl_core.data.images import content_key
    from medtl_core.features.extract import extract
    from medtl_core.features.spec import backbone_spec
    from medtl_core.runtime import processor
    from medtl_core.values import Examples, Task

    place = processor(word)
    gpu = place.kind == "cuda"
    images = synthetic(_MANY if gpu else few, size)
    chosen = Settings(image_size=size, views="one", cache="off", device=word)
    spec, keys = backbone_spec(chosen, ()), [content_key(image) for image in images]

    def ours(count: int, settings: Settings) -> NDArray[np.float32]:
        examples = Examples({"image": images[:count]}, Task("", ("a",)))
        return extract(examples, spec, settings, keys=keys[:count], workers=os.cpu_count() or 1).values

    ours(min(len(images), 2 * _CHECKED), chosen)  # the network is loaded, kernels are chosen
    started = time.perf_counter()
    ours(len(images), chosen)
    seconds = time.perf_counter() - started
    network = load_extractor(find_backbone("lite0"), "", spec.taps, spec.pooling).to(place.place)
    grid = {batch: _plain(images, spec, network, batch) for batch in ((32, 64, 128, 256) if gpu else (1, 4, 8, 16))}
    best = min(grid.values())
    checked = min(len(images), _CHECKED)
    there, here = ours(checked, chosen), ours(checked, chosen.replace(device="cpu"))
    apart = float((np.abs(there - here) / (here.std(axis=0) + 1e-6)).max())
    where = f"{seconds:.2f} s, {len(images):,} images of {size} px on {place.place}"
    note = "" if gpu else f"; no GPU is here: {len(images)} images in place of {_MANY:,}"
    loops = ", ".join(f"{batch}: {spent:.2f} s" for batch, spent in grid.items())
    return [
        line("extraction / best plain loop on the device", seconds / best, "<= 1.15", where + note),
        line("plain loop, images a second", len(images) / best, "", f"by batch, {loops}"),
        line("features' distance from the CPU's, in spreads", apart, "<= 0.001", f"of {checked} images, the largest"),
    ]


def synthetic(count: int, size: int) -> NDArray[np.uint8]:
    """Returns images of a few coloured patches, uint8 [count, size, size, 3]."""
    patches = np.random.default_rng(0).integers(0, 256, (count, 7, 7, 3), dtype=np.uint8)
    place = np.arange(size) * 7 // size
    return np.ascontiguousarray(patches[:, place][:, :, place])


def _plain(images: NDArray[np.uint8], spec: Any, network: "Extractor", batch: int) -> float:
    """Seconds of a loop as one would write it by hand."""
    import torch

    place = next(network.parameters()).device
    mean, std = (torch.tensor(value, device=place).view(1, 3, 1, 1) * 255 for value in (spec.mean, spec.std))

    def run(rows: NDArray[np.uint8]) -> torch.Tensor:
        pixels = torch.from_numpy(rows).to(place, non_blocking=True).permute(0, 3, 1, 2).float()
        features: torch.Tensor = network((pixels - mean) / std)
        return features

    with torch.inference_mode():
        run(images[:batch]).cpu()
        started = time.perf_counter()
        rows = [run(images[first : first + batch]) for first in range(0, len(images), batch)]
        torch.cat(rows).cpu()
    return time.perf_counter() - started
