"""From the rows of a sweep to what is said about it: intervals over seeds, and where a mechanism is at chance."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from medtl_core.report.summary import Estimate, estimate
from medtl_core.sweep.rows import Row

#: Intervals of single runs: (row's shots, sum, method, epsilon) -> figure -> (low, high).
Singles = Mapping[tuple[int, str, str, float | None], Mapping[str, Sequence[float]]]

_FIGURES = ("balanced_accuracy", "auroc", "worst_site")


def lines(rows: Sequence[Row], chance: float, singles: Singles) -> list[dict[str, Any]]:
    """Returns one record a line of the table: shots, sum and method, with a point for every epsilon, JSON-able.

    A figure's interval is Student's over seeds; a point with one seed takes the patient bootstrap of its run.

    Args:
        rows: of finished runs.
        chance: balanced accuracy of guessing.
        singles: bootstrap intervals of the runs.
    """
    groups: dict[tuple[int, str, str], dict[float | None, list[Row]]] = {}
    for row in rows:
        groups.setdefault((row.shots, row.sum, row.method), {}).setdefault(row.epsilon, []).append(row)
    found = []
    for (shots, mode, method), points in groups.items():
        ordered = sorted(points.items(), key=lambda item: item[0] or 0.0)
        drawn = [_point(same, chance, singles.get((shots, mode, method, epsilon), {})) for epsilon, same in ordered]
        found.append({"shots": shots, "sum": mode, "method": method, "points": drawn})
    return sorted(found, key=lambda line: (line["shots"], line["sum"] == "none"))


def _point(rows: Sequence[Row], chance: float, single: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    figures = {name: estimate([getattr(row, name) for row in rows], single.get(name)) for name in _FIGURES}
    return {
        "epsilon": rows[0].epsilon,
        "spent": max((row.spent for row in rows if row.spent is not None), default=None),
        "delta": rows[0].delta,
        **figures,
        "bytes_up": round(sum(row.bytes_up for row in rows) / len(rows)),
        "seeds": len(rows),
        "at_chance": at_chance(figures["balanced_accuracy"], chance),
    }


def at_chance(found: Estimate, chance: float) -> bool | None:
    """Says whether a figure cannot be told from guessing: its interval holds chance, or lies below it.

    None where there is no interval.

    Example:
        >>> at_chance({"mean": 0.4, "low": 0.3, "high": 0.5}, 1 / 3)
        True
        >>> at_chance({"mean": 0.4, "low": 0.35, "high": 0.45}, 1 / 3)
        False
    """
    low = found["low"]
    return None if low is None else low <= chance


def sentences(found: Sequence[Mapping[str, Any]], chance: float) -> Iterator[str]:
    """Yields one sentence for every mechanism, sum and number of shots: at which epsilons it is at chance."""
    several = len({line["shots"] for line in found}) > 1
    for line in found:
        if line["sum"] == "none":
            continue
        place = f" with {line['shots']} shots" if several else ""
        name = f"{line['method']} ({_SUMS[line['sum']]}){place}"
        yield f"{name}: {_where(line['points'], chance)}."


_SUMS: Mapping[str, str] = {"secure": "secure sum", "open": "no secure sum"}


def _where(points: Sequence[Mapping[str, Any]], chance: float) -> str:
    kinds = {
        kind: [f"{point['epsilon']:g}" for point in points if point["at_chance"] is kind]
        for kind in (True, False, None)
    }
    parts = []
    if kinds[True]:
        every = "every epsilon tried, " if not kinds[False] and not kinds[None] else "epsilon "
        parts.append(
            f"at chance at {every}{listed(kinds[True])} (its 95% interval is not above {chance:.3f}: it cannot be told "
            "from guessing)"
        )
    if kinds[False]:
        every = "every epsilon tried, " if not kinds[True] and not kinds[None] else "epsilon "
        parts.append(f"above chance at {every}{listed(kinds[False])}")
    if kinds[None]:
        parts.append(f"not known at epsilon {listed(kinds[None])}, where there is no interval")
    return "; ".join(parts)


def listed(words: Sequence[str]) -> str:
    """Returns words as a list in a sentence.

    Example:
        >>> listed(["0.5", "1", "2"])
        '0.5, 1 and 2'
    """
    return " and ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else "".join(words)


def overspent(rows: Sequence[Row]) -> list[Row]:
    """Returns the rows in which a ledger accounts for more than was promised; there must be none."""
    return [row for row in rows if row.spent is not None and row.spent > (row.epsilon or 0.0) * (1 + 1e-9)]
