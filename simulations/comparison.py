"""Methods side by side: means over seeds with intervals, and differences to baselines paired by seed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from medtl_core.evaluation.intervals import Paired, holm, over_seeds, paired
from simulations.spread import apart, shown

#: Method -> seed -> the method's record in result.json.
Records = Mapping[str, Mapping[int, Mapping[str, Any]]]

#: Fewer seeds than this give a mean, and no interval worth printing.
FEWEST = 3
#: Holm-adjusted p-value below which a difference is marked.
MARKED = 0.05


@dataclass(frozen=True)
class Row:
    """One method.

    Attributes:
        method: its name.
        seeds: repetitions it has.
        figures: name -> (mean, half-width of the 95 % t-interval, or None with one seed).
        costs: name -> mean.
        versus: baseline -> paired difference in balanced accuracy, and its Holm-adjusted p-value.
    """

    method: str
    seeds: int
    figures: Mapping[str, tuple[float, float | None]]
    costs: Mapping[str, float]
    versus: Mapping[str, tuple[Paired, float]]


def compare(records: Records, baselines: Sequence[str]) -> list[Row]:
    """Returns one row a method; p-values are adjusted for the number of methods compared with each baseline."""
    versus: dict[str, dict[str, tuple[Paired, float]]] = {method: {} for method in records}
    for baseline in baselines:
        pairs = {
            method: _paired(records[method], records.get(baseline, {})) for method in records if method != baseline
        }
        known = {method: pair for method, pair in pairs.items() if pair is not None}
        for (method, pair), p in zip(known.items(), holm([pair.p for pair in known.values()]), strict=True):
            versus[method][baseline] = (pair, p)
    return [_row(method, list(by_seed.values()), versus[method]) for method, by_seed in records.items()]


def markdown(rows: Sequence[Row], baselines: Sequence[str]) -> str:
    """Returns rows as a Markdown table: percent, half-widths of 95 % intervals, `*` where Holm's p is below 0.05."""
    head = ("method", "seeds", "balanced accuracy", "AUROC", "worst site", "sent per hospital", "CPU s")
    lines = [(*head, *(f"against {baseline}" for baseline in baselines)), ("-",) * (len(head) + len(baselines))]
    for row in rows:
        percents = [_percent(*row.figures[name]) if name in row.figures else "-" for name in FIGURES]
        cost = [f"{row.costs['bytes_up'] / 1e3:,.0f} kB", f"{row.costs['cpu_seconds']:.2f}"]
        differences = [_difference(row.versus.get(baseline)) for baseline in baselines]
        lines.append((f"`{row.method}`", str(row.seeds), *percents, *cost, *differences))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


FIGURES = ("balanced_accuracy", "auroc", "worst_site")


def _row(method: str, records: Sequence[Mapping[str, Any]], versus: Mapping[str, tuple[Paired, float]]) -> Row:
    figures: dict[str, tuple[float, float | None]] = {}
    for name in FIGURES:
        values = [record["figures"][name] for record in records if record["figures"].get(name) is not None]
        if len(values) >= FEWEST:
            mean, low, high = over_seeds(values)
            figures[name] = (mean, (high - low) / 2)
        elif values:
            figures[name] = (sum(values) / len(values), None)
    costs = {
        name: sum(record["cost"][name] for record in records) / len(records) for name in ("bytes_up", "cpu_seconds")
    }
    return Row(method, len(records), figures, costs, versus)


def _paired(ours: Mapping[int, Mapping[str, Any]], theirs: Mapping[int, Mapping[str, Any]]) -> Paired | None:
    values = [
        (ours[seed]["figures"]["balanced_accuracy"], theirs[seed]["figures"]["balanced_accuracy"])
        for seed in sorted(ours.keys() & theirs.keys())
    ]
    both = [(one, other) for one, other in values if one is not None and other is not None]
    return paired([one for one, _ in both], [other for _, other in both]) if len(both) >= FEWEST else None


def _percent(mean: float, half: float | None) -> str:
    return f"{100 * mean:.1f}" if half is None else shown(mean, mean - half, mean + half)


def _difference(found: tuple[Paired, float] | None) -> str:
    if found is None:
        return "-"
    pair, p = found
    mark = "*" if p < MARKED else ""
    return apart(pair) + mark
