"""How tables show a figure over seeds: its mean and the half-width of the 95 % t-interval; and the table itself."""

from collections.abc import Iterable, Sequence

from medtl_core.clinical.significance import Paired
from medtl_core.evaluation.intervals import over_seeds


def shown(mean: float, low: float, high: float, *, scale: float = 100.0, sign: str = "") -> str:
    """Returns "mean ± half-width"; `sign` "+" also marks positive means."""
    return f"{scale * mean:{sign}.1f} ± {scale * (high - low) / 2:.1f}"


def over(values: Sequence[float | None], *, scale: float = 100.0, fewest: int = 2, sign: str = "") -> str:
    """Returns the same of values by seed, None where there is no such figure; of too few (`fewest`) the mean alone.

    Raises:
        DataError: one of several is not finite.

    Example:
        >>> over([0.5, None]), over([]), over([0.4, 0.6, 0.5]), over([0.4, 0.6], fewest=3)
        ('50.0', '-', '50.0 ± 24.8', '50.0')
    """
    known = [value for value in values if value is not None]
    if len(known) < fewest:
        return f"{scale * sum(known) / len(known):{sign}.1f}" if known else "-"
    return shown(*over_seeds(known), scale=scale, sign=sign)


def apart(pair: Paired) -> str:
    """Returns a paired difference in percentage points, with its sign."""
    return shown(pair.mean, pair.low, pair.high, sign="+")


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Returns a Markdown table."""
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, ["-"] * len(head), *rows])
