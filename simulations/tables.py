"""Markdown tables of finished runs, for docs/results.md: `python -m simulations.tables RUN...`."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from simulations.intervals import markdown, shown

_COLUMNS = ("method", "balanced accuracy", "AUROC", "worst site", "sent per hospital", "exchanges", "CPU s")


def table(metrics: Mapping[str, Any]) -> str:
    """Returns one run's methods as a Markdown table; figures in percent with the half-width of their interval."""
    rows = []
    for name, method in metrics["methods"].items():
        figures = (_percent(**method[figure]) for figure in ("balanced_accuracy", "auroc"))
        worst = _percent(method["worst_site"]["mean"])
        cost = f"{method['bytes_up'] / 1e3:,.0f} kB", f"{method['rounds']:.0f}", f"{method['cpu_seconds']:.2f}"
        rows.append((f"`{name}`", *figures, worst, *cost))
    return markdown(_COLUMNS, rows)


def _percent(mean: float | None, low: float | None = None, high: float | None = None, **_: object) -> str:
    if mean is None:
        return "-"
    return f"{100 * mean:.1f}" if low is None or high is None else shown(mean, low, high)


def main() -> None:
    """Prints the table of every run folder named on the command line."""
    for folder in map(Path, sys.argv[1:]):
        metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
        print(f"### {folder.name}: {metrics['interval']}\n\n{table(metrics)}\n")


if __name__ == "__main__":
    main()
