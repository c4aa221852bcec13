"""How far a method chosen beforehand stays behind the one that turned out best, on the same splits."""

from collections.abc import Mapping, Sequence

import numpy as np

from medtl_core.intervals import over_seeds

#: Method -> seed -> percent.
Figures = Mapping[str, Mapping[int, float]]


def against_best(figures: Figures, own: str) -> str:
    """Returns "difference ± half-width (best rival)", in points, over the seeds both have; "-" without two of them.

    The best rival is the one with the highest mean over these very seeds: a choice nobody could have made beforehand,
    which flatters it.

    Example:
        >>> against_best({"a": {0: 50.0, 1: 52.0}, "b": {0: 51.0, 1: 53.0}}, "a")
        '-1.0 ± 0.0 (b)'
    """
    means = {name: float(np.mean(list(row.values()))) for name, row in figures.items() if name != own and row}
    if not means or own not in figures:
        return "-"
    best = max(means, key=lambda name: means[name])
    return _shown([figures[own][seed] - figures[best][seed] for seed in figures[own] if seed in figures[best]], best)


def _shown(differences: Sequence[float], best: str) -> str:
    if len(differences) < 2:
        return "-"
    mean, low, high = over_seeds(differences)
    return f"{mean:+.1f} ± {(high - low) / 2:.1f} ({best})"
