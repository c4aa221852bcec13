"""How far a method chosen beforehand stays behind the one that turned out best, on the same splits."""

from collections.abc import Iterator, Mapping

import numpy as np

from simulations.spread import over

#: Method -> seed -> percent.
Figures = Mapping[str, Mapping[int, float]]


def against_best(figures: Figures, own: str) -> str:
    """Returns "difference ± half-width (rival)", in points; "-" with less than two seeds on either half.

    Taking the rival with the highest mean and comparing with that very mean counts its luck as merit. So the rival is
    picked on the even seeds and compared on the odd ones, and the other way round; the difference is paired, over all
    seeds that both have. In brackets: who was picked.

    Example:
        >>> against_best({"a": {s: 50.0 + s for s in range(4)}, "b": {s: 51.0 + s for s in range(4)}}, "a")
        '-1.0 ± 0.0 (b)'
    """
    rivals = {name: row for name, row in figures.items() if name != own and row}
    if own not in figures or not rivals:
        return "-"
    picked = {half: _best(rivals, 1 - half) for half in (0, 1)}
    if None in picked.values():
        return "-"
    differences = list(_differences(figures[own], {half: rivals[str(name)] for half, name in picked.items()}))
    if len(differences) < 4:
        return "-"
    names = " / ".join(dict.fromkeys(str(name) for name in picked.values()))
    return f"{over(differences, scale=1.0, sign='+')} ({names})"


def _best(rivals: Figures, half: int) -> str | None:
    """The rival with the highest mean over the seeds of one half, 0 = even."""
    means = {
        name: float(np.mean([value for seed, value in row.items() if seed % 2 == half]))
        for name, row in rivals.items()
        if any(seed % 2 == half for seed in row)
    }
    return max(means, key=lambda name: means[name]) if means else None


def _differences(own: Mapping[int, float], rival: Mapping[int, Mapping[int, float]]) -> Iterator[float]:
    return (value - rival[seed % 2][seed] for seed, value in own.items() if seed in rival[seed % 2])
