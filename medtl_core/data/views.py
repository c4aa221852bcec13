"""Label-preserving views of an image: what turns one picture into the rows a backbone sees."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]

#: View name -> function of a square image, uint8 [s, s, 3]. The catalog states which of them keep a label true.
VIEWS: Mapping[str, Callable[[Pixels], Pixels]] = MappingProxyType(
    {
        "identity": lambda image: image,
        "flip-h": lambda image: image[:, ::-1],
        "flip-v": lambda image: image[::-1],
        "transpose": lambda image: image.swapaxes(0, 1),
    }
)


def square(image: Pixels, size: int) -> Pixels:
    """Returns an image resized to [size, size, 3], whatever its aspect: bilinear, antialiased when it shrinks.

    Args:
        image: uint8 [h, w, 3].
        size: pixels a side.

    Example:
        >>> square(np.full((3, 5, 3), 7, dtype=np.uint8), 2)[:, :, 0].tolist()
        [[7, 7], [7, 7]]
    """
    if image.shape[:2] == (size, size):
        return image
    from PIL import Image

    return np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BILINEAR))


def stacked(image: Pixels, views: tuple[str, ...]) -> Pixels:
    """Returns the views of a square image, uint8 [views, s, s, 3], in one contiguous array.

    Example:
        >>> image = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
        >>> stacked(image, ("identity", "flip-h"))[:, 0, :, 0].tolist()
        [[0, 3], [3, 0]]
    """
    return np.stack([VIEWS[name](image) for name in views])
