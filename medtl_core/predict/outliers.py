"""Cases unlike all those a head was trained on: farther from every class than nearly all of these are themselves."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self, final

import numpy as np

from medtl_core.clinical.distance import Distance
from medtl_core.errors import WeightsError
from medtl_core.heads.statistics import Float
from medtl_core.values import Array

#: Under which names the arrays lie beside a head's own.
PREFIX = "distance."
_DAMAGED = "the head's distances are damaged; fetch both files again, or train and save it anew"


@final
@dataclass(frozen=True)
class Outliers:
    """A distance and its limit.

    Attributes:
        distance: to the training cases.
        limit: squared distance beyond which a case is unlike them.
        share: of cases like the training cases that lie beyond, at most.
        cases: on which the limit was set, each with the distance to the cases without its fold.
    """

    distance: Distance
    limit: float
    share: float
    cases: int

    @classmethod
    def of(cls, facts: Mapping[str, Any], arrays: Mapping[str, Array], width: int) -> Self | None:
        """Returns what lies beside a head of so many features; None where nothing does.

        Raises:
            WeightsError: it is damaged.
        """
        if not facts and not arrays:
            return None
        try:
            parts = [arrays[PREFIX + name] for name in Distance.__dataclass_fields__]
            limit, share, cases = float(facts["limit"]), float(facts["share"]), int(facts["cases"])
        except (LookupError, TypeError, ValueError) as error:
            raise WeightsError(_DAMAGED) from error
        axes, means, spread, scale = parts
        shapes = [(len(axes), width), (len(means), width), (len(axes) + 1,), (width,)]
        fits = all(part.shape == shape and part.dtype == np.float32 for part, shape in zip(parts, shapes, strict=True))
        if not fits or not len(means) or not (limit > 0 and 0 < share < 1):
            raise WeightsError(_DAMAGED)
        if not all(np.isfinite(part).all() for part in parts) or min(spread.min(), scale.min()) <= 0:
            raise WeightsError(_DAMAGED)
        return cls(Distance(*parts), limit, share, cases)

    @property
    def arrays(self) -> dict[str, Array]:
        """What lies beside a head's arrays, by name."""
        return {PREFIX + name: array for name, array in vars(self.distance).items()}

    @property
    def facts(self) -> dict[str, Any]:
        """What its manifest says."""
        return {"limit": self.limit, "share": self.share, "cases": self.cases}

    @property
    def promise(self) -> str:
        """What it says of the cases that are not answered."""
        few = f"{100 * (1 - self.share):g} of 100"
        return f"A case farther from the training cases than {few} of them ({self.cases} told) is not answered."

    def far(self, values: Array) -> Float:
        """Returns each row's distance as a share of the limit [n]; beyond 1 it is unlike the training cases."""
        return np.sqrt(self.distance.squared(values) / self.limit)
