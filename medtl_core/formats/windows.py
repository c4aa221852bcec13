"""From measured values to grey: windows as DICOM states them, the three of CT, and a robust one."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medtl_core.errors import DataError
from medtl_core.values import Array

#: Percentiles of the values in the mask that become black and white where nothing states a window.
PERCENTILES = (1.0, 99.0)
#: Values of a volume that its percentiles are taken from, evenly spaced: more would not move them by a grey level.
_SAMPLED = 1 << 20


@dataclass(frozen=True)
class Window:
    """Which values are shown, and how.

    Attributes:
        centre, width: of the values shown, in their own unit.
        function: "LINEAR", "LINEAR_EXACT" or "SIGMOID".
    """

    centre: float
    width: float
    function: str = "LINEAR"

    def __post_init__(self) -> None:
        if self.function not in ("LINEAR", "LINEAR_EXACT", "SIGMOID"):
            raise DataError("the function of its window is not LINEAR, LINEAR_EXACT or SIGMOID")
        if (
            not (self.width >= 1 if self.function == "LINEAR" else self.width > 0)
            or not np.isfinite([self.centre, self.width]).all()
        ):
            raise DataError("its window has no width")

    def grey(self, values: Array) -> NDArray[np.uint8]:
        """Returns values as grey 0..255, by the formulas of DICOM PS3.3 C.11.2.1.2 and C.11.2.1.3.

        Example:
            >>> Window(40, 400).grey(np.array([-160, -159, 40, 239, 240])).tolist()
            [0, 1, 128, 255, 255]
        """
        values = np.asarray(values, np.float64)
        if self.function == "SIGMOID":
            with np.errstate(over="ignore"):
                share = 1.0 / (1.0 + np.exp(-4.0 * (values - self.centre) / self.width))
        else:
            less = 1.0 if self.function == "LINEAR" else 0.0
            reach = self.width - less
            # A LINEAR window of width 1 is a threshold
            middle = self.centre - less / 2
            share = (values - middle) / reach + 0.5 if reach else (values > middle).astype(np.float64)
        return np.rint(np.clip(share, 0.0, 1.0) * 255.0).astype(np.uint8)


#: The channels of a CT picture in Hounsfield units: lung, soft tissue, bone.
CT_WINDOWS = (Window(-600, 1500), Window(40, 400), Window(400, 1800))


def robust_window(values: Array, mask: NDArray[np.bool_] | None = None) -> Window | None:
    """Returns the window between two `PERCENTILES` of the values in the mask; None where they are all alike or none.

    Args:
        values: of any shape; not finite ones are passed over.
        mask: bool, of the same shape; None = all.
    """
    flat = (values if mask is None else values[mask]).reshape(-1)
    flat = flat[:: max(flat.size // _SAMPLED, 1)]
    flat = flat[np.isfinite(flat)]
    low, high = np.percentile(flat, PERCENTILES) if flat.size else (0.0, 0.0)
    if high <= low and flat.size:  # almost all alike: what differs is the picture
        low, high = float(flat.min()), float(flat.max())
    return Window((low + high) / 2, high - low, "LINEAR_EXACT") if high > low else None
