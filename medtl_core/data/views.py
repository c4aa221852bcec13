"""Label-preserving views of an image: what turns one picture into the rows a backbone sees."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from medtl_core.data.images import read_each
from medtl_core.values import Array

if TYPE_CHECKING:
    from torch import Tensor

Pixels = NDArray[np.uint8]


def _macenko(image: Pixels) -> Pixels:
    from medtl_core.slides.stain import normalised_stain

    return normalised_stain(image)


#: View name -> function of a square image, uint8 [s, s, 3]. The catalog states which of them keep a label true; the
#: first eight are all ways to lay a square, and each undoes itself but for quarter turns, which undo each other;
#: "macenko" is a picture of stained tissue as another laboratory would have stained it, for those who ask for it.
VIEWS: Mapping[str, Callable[[Pixels], Pixels]] = MappingProxyType(
    {
        "identity": lambda image: image,
        "flip-h": lambda image: image[:, ::-1],
        "flip-v": lambda image: image[::-1],
        "transpose": lambda image: image.swapaxes(0, 1),
        "rotate-90": lambda image: image.swapaxes(0, 1)[::-1],
        "rotate-180": lambda image: image[::-1, ::-1],
        "rotate-270": lambda image: image.swapaxes(0, 1)[:, ::-1],
        "transverse": lambda image: image[::-1, ::-1].swapaxes(0, 1),
        "macenko": _macenko,
    }
)


def square(image: Pixels, size: int) -> Pixels:
    """Returns an image [h, w, 3] resized to [size, size, 3]: bilinear, antialiased when it shrinks."""
    if image.shape[:2] == (size, size):
        return image
    from PIL import Image

    return np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BILINEAR))


def views_of(image: Path | str | Array, size: int, views: Sequence[str], *, robust: bool = True) -> Pixels:
    """Returns the `VIEWS` named of an image as a square, uint8 [views, size, size, 3], in one contiguous array.

    Those of a case of several pictures stand one picture behind the other. For `robust` see `images.decode`.

    Raises:
        DataError: the image cannot be decoded.

    Example:
        >>> image = np.arange(4, dtype=np.uint8).reshape(2, 2)
        >>> views_of(image, 2, ("identity", "flip-h"))[:, 0, :, 0].tolist()
        [[0, 1], [1, 0]]
    """
    (laid,) = views_of_each([image], size, views, robust=robust)
    return laid


def views_of_each(images: Sequence[Any], size: int, views: Sequence[str], *, robust: bool = True) -> Iterator[Pixels]:
    """Yields what `views_of` returns of each image, in order; see `images.read_each`."""
    for pictures in read_each(images, robust=robust):
        squares = (square(picture, size) for picture in pictures)
        yield np.stack([VIEWS[name](picture) for picture in squares for name in views])


def normalised(pixels: "Tensor", mean: Sequence[float], std: Sequence[float]) -> "Tensor":
    """Returns the batch a backbone reads: float32 [n, 3, s, s], each colour less its mean, over its deviation.

    The one place where pixels become numbers: features, trained suffixes and pretraining agree to the bit.

    Args:
        pixels: uint8 [n, s, s, 3], on any device.
        mean: per channel of an RGB image in [0, 1].
        std: likewise, the deviation.
    """
    import torch

    size = pixels.shape[2]
    # One row of pixels holds size * 3 values, so a plain product runs along memory.
    scale = torch.tensor([1.0 / (255.0 * deviation) for deviation in std], device=pixels.device).repeat(size)
    shift = torch.tensor([-mu / deviation for mu, deviation in zip(mean, std, strict=True)], device=pixels.device)
    lines = pixels.reshape(-1, size * 3).float().mul_(scale).add_(shift.repeat(size))
    # The pixels' own order in memory is the layout ("channels last") the backbone runs fastest in.
    return lines.view(pixels.shape).permute(0, 3, 1, 2)
