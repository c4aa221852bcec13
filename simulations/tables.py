"""Markdown tables of finished runs, for docs/results.md: `python -m simulations.tables RUN...`."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from simulations.spread import shown

_COLUMNS = ("method", "balanced accuracy", "AUROC", "worst site", "sent per hospital", "exchanges", "CPU s")


def table(metrics: Mapping[str, Any]) -> str:
    """Returns one run's methods as a Markdown table; figures in percent with the half-width of their interval."""
    rows = [_COLUMNS, ("-",) * len(_COLUMNS)]
    for name, found in metrics["methods"].items():
        rows.append(
            (
                f"`{name}`",
                _percent(found["balanced_accuracy"]),
                _percent(found["auroc"]),
                _percent(found["worst_site"], spread=False),
                f"{found['bytes_up'] / 1e3:,.0f} kB",
                f"{found['rounds']:.0f}",
                f"{found['cpu_seconds']:.2f}",
            )
        )
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _percent(estimate: Mapping[str, float | None], *, spread: bool = True) -> str:
    mean, low, high = (estimate.get(key) for key in ("mean", "low", "high"))
    if mean is None:
        return "-"
    if not spread or low is None or high is None:
        return f"{100 * mean:.1f}"
    return shown(mean, low, high)


def main() -> None:
    """Prints the table of every run folder named on the command line."""
    for folder in map(Path, sys.argv[1:]):
        metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
        print(f"### {folder.name}: {metrics['interval']}\n\n{table(metrics)}\n")


if __name__ == "__main__":
    main()
