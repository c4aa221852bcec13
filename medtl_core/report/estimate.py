"""A figure over repetitions: its mean, and how sure it is."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

from medtl_core.report import numerals


@dataclass(frozen=True)
class Estimate:
    """Mean and 95% interval of a figure, None where it is not defined or has no interval.

    `undefined` counts the repetitions at which the figure is not defined although it is at others.
    """

    mean: float | None = None
    low: float | None = None
    high: float | None = None
    undefined: int = 0

    @classmethod
    def over(
        cls,
        values: Sequence[float | None],
        bootstrap: tuple[float, float] | None = None,
        limits: tuple[float, float] = (0.0, 1.0),
    ) -> Self:
        """Returns the estimate from one value a repetition: Student's t-interval over those that are defined.

        A single value may bring along an interval, its `bootstrap`. No interval leaves the figure's `limits`.

        Example:
            >>> Estimate.over([0.5], (0.4, 0.6))
            Estimate(mean=0.5, low=0.4, high=0.6, undefined=0)
        """
        from medtl_core.evaluation.intervals import over_seeds, within

        defined = [float(value) for value in values if value is not None]
        undefined = len(values) - len(defined) if defined else 0
        if len(defined) > 1:
            mean, *ends = over_seeds(defined)
            return cls(mean, *within((ends[0], ends[1]), *limits), undefined)
        low, high = bootstrap if bootstrap and defined else (None, None)
        return cls(defined[0] if defined else None, low, high, undefined)

    @property
    def ends(self) -> tuple[float, float] | None:
        """Low and high, or None where there is no interval."""
        return None if self.low is None or self.high is None else (self.low, self.high)

    @property
    def figure(self) -> str:
        """The mean in words, to three digits."""
        return numerals.figure(self.mean)

    @property
    def spread(self) -> str:
        """The interval in words, to three digits; empty where there is none."""
        return "–".join(map(numerals.figure, self.ends or ()))  # noqa: RUF001 (an en dash joins the ends of a range)

    def __str__(self) -> str:
        """Both, side by side: what a plot says."""
        return f"{self.figure} {self.spread}".strip()

    def as_dict(self) -> dict[str, Any]:
        """Returns what `metrics.json` keeps."""
        undefined = {"undefined": self.undefined} if self.undefined else {}
        return {"mean": self.mean, "low": self.low, "high": self.high, **undefined}
