"""Figures of several repetitions, joined: the content of `metrics.json` and the table in the terminal."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from medtl_core.errors import RunError
from medtl_core.report import numerals

if TYPE_CHECKING:
    from rich.table import Table

Result = Mapping[str, Any]
Estimate = dict[str, float | None]

#: Judged figures and their headings, in the order in which tables show them.
FIGURES: Mapping[str, str] = {
    "balanced_accuracy": "balanced accuracy",
    "auroc": "AUROC",
    "auprc": "AUPRC",
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "worst_site": "worst site",
    "ece": "calibration error",
    "brier": "Brier score",
}

_COSTS = ("bytes_up", "bytes_down", "rounds", "cpu_seconds", "wall_seconds")


def aggregate(results: Sequence[Result]) -> dict[str, Any]:
    """Returns the metrics of a run from the results of its repetitions, one per seed.

    Every figure becomes `{"mean", "low", "high"}`. With several seeds, the interval is a t-interval over the seeds
    at which the figure is defined (`"undefined"` counts the others); with one, it is that seed's patient bootstrap,
    or null where none was taken. `"versus_local"` is the difference to training alone, paired by seed.

    Raises:
        RunError: there is no result, two results share a seed, or they do not describe the same classes.
    """
    ordered = _checked(results)
    names = list(dict.fromkeys(name for result in ordered for name in result["methods"]))
    single = len(ordered) == 1
    reference = next((name for name in names if role(name) == "local"), None)
    return {
        "schema": 1,
        "seeds": [result["seed"] for result in ordered],
        "interval": "95% patient bootstrap of one seed" if single else f"95% t-interval over {len(ordered)} seeds",
        "classes": list(ordered[0]["classes"]),
        "hospitals": len(ordered[0]["sites"]),
        "test_cases": ordered[0]["test"]["cases"],
        "failures": sum(len(result.get("failures", ())) for result in ordered),
        "methods": {name: _method(ordered, name, reference) for name in names},
    }


def role(name: str) -> str:
    """Returns what a method stands for: "federated", or a reference, "local" (no exchange) or "pooled" (no privacy).

    Example:
        >>> role("fedavg-20"), role("pooled-logistic")
        ('federated', 'pooled')
    """
    return next((kind for kind in ("local", "pooled") if name.split("-")[0] == kind), "federated")


def interval_words(metrics: Mapping[str, Any]) -> str:
    """Returns what the intervals are, naming the methods whose interval is of another kind."""
    others = [f"{name}: {method['interval']}" for name, method in metrics["methods"].items() if "interval" in method]
    return "; ".join([metrics["interval"], *others])


def focus(metrics: Mapping[str, Any]) -> str:
    """Returns the method a report looks at closely: `auto` where it took part, else the best federated one."""
    methods: Mapping[str, Any] = metrics["methods"]
    if "auto" in methods:
        return "auto"
    federated = [name for name in methods if role(name) == "federated"] or list(methods)
    return max(federated, key=lambda name: methods[name]["balanced_accuracy"]["mean"] or 0.0)


def estimate(values: Sequence[float | None], bootstrap: Sequence[float] | None = None) -> Estimate:
    """Returns mean and 95% interval of one figure over seeds; one value takes the interval it brings along.

    Example:
        >>> estimate([0.5], [0.4, 0.6])
        {'mean': 0.5, 'low': 0.4, 'high': 0.6}
    """
    from medtl_core.evaluation.intervals import over_seeds

    defined = [float(value) for value in values if value is not None]
    undefined = len(values) - len(defined)
    if len(defined) > 1:
        mean, low, high = (float(number) for number in over_seeds(defined))
        found: Estimate = {"mean": mean, "low": low, "high": high}
    else:
        low_high = [float(end) for end in bootstrap] if bootstrap and defined else [None, None]
        found = {"mean": defined[0] if defined else None, "low": low_high[0], "high": low_high[1]}
    return found | ({"undefined": undefined} if defined and undefined else {})


def summary_table(metrics: Mapping[str, Any]) -> "Table":
    """Returns the metrics as a table for the terminal: one row a method, small figures are intervals."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, caption=_caption(metrics), caption_justify="left")
    table.pad_edge, table.show_edge, table.collapse_padding = False, False, True
    table.add_column("\nmethod", no_wrap=True)
    # At 80 columns the intervals move to a second line; nothing is ever cut off.
    table.add_column("balanced\naccuracy", justify="right", min_width=9)
    table.add_column("\nAUROC", justify="right", min_width=9)
    for heading in ("worst\nsite", "\nECE", "vs\nlocal", "sent per\nhospital", "\nrounds"):
        table.add_column(heading, justify="right", no_wrap=True)
    chosen = focus(metrics)
    for name, method in metrics["methods"].items():
        table.add_row(*_cells(name, method), style="bold" if name == chosen else "")
    return table


def _checked(results: Sequence[Result]) -> list[Result]:
    if not results:
        raise RunError("there is no result to summarise; did every seed of the run fail?")
    for result in results:
        if result.get("schema") != 1:
            raise RunError(f"result of seed {result.get('seed')} has schema {result.get('schema')!r}, this is schema 1")
        if result["classes"] != results[0]["classes"]:
            raise RunError(f"seeds {results[0]['seed']} and {result['seed']} name different classes; do not mix runs")
    ordered = sorted(results, key=lambda result: int(result["seed"]))
    seeds = [result["seed"] for result in ordered]
    if len(set(seeds)) < len(seeds):
        raise RunError(f"two results share a seed (seeds {seeds}); an interval over copies would be too narrow")
    return ordered


def _method(results: Sequence[Result], name: str, reference: str | None) -> dict[str, Any]:
    records = [result["methods"][name] for result in results if name in result["methods"]]
    # An interval from the bootstrap says how sure one seed is; it stands in only when there is no second seed.
    alone = records[0].get("intervals", {}) if len(results) == 1 else {}
    found: dict[str, Any] = {"kind": records[0].get("kind", "")}
    for figure in FIGURES:
        found[figure] = estimate([record["figures"].get(figure) for record in records], alone.get(figure))
    for cost in _COSTS:
        spent = [record["cost"][cost] for record in records if record.get("cost", {}).get(cost) is not None]
        mean = sum(spent) / len(spent) if spent else None
        found[cost] = round(mean) if mean is not None and cost.startswith("bytes") else mean
    if alone and records[0].get("facts", {}).get("interval"):
        found["interval"] = records[0]["facts"]["interval"]
    if reference is not None and name != reference:
        found["versus_local"] = {
            figure: estimate(_differences(results, name, reference, figure))
            for figure in ("balanced_accuracy", "auroc")
        }
    return found


def _differences(results: Sequence[Result], name: str, reference: str, figure: str) -> list[float | None]:
    pairs = [
        (result["methods"][name]["figures"].get(figure), result["methods"][reference]["figures"].get(figure))
        for result in results
        if name in result["methods"] and reference in result["methods"]
    ]
    return [None if one is None or other is None else one - other for one, other in pairs]


def _cells(name: str, method: Mapping[str, Any]) -> list[str]:
    def with_spread(figure: str) -> str:
        found = method[figure]
        interval = numerals.spread(found).replace("0.", ".")
        return numerals.figure(found["mean"]) + (f" [not bold dim]{interval}[/]" if interval else "")

    versus = method.get("versus_local", {}).get("balanced_accuracy", {}).get("mean")
    rounds = method["rounds"]
    return [
        name,
        with_spread("balanced_accuracy"),
        with_spread("auroc"),
        numerals.figure(method["worst_site"]["mean"]),
        numerals.figure(method["ece"]["mean"]),
        numerals.signed(versus),
        numerals.size(method["bytes_up"]),
        numerals.UNDEFINED if rounds is None else f"{rounds:g}",
    ]


def _caption(metrics: Mapping[str, Any]) -> str:
    failures = f", {metrics['failures']} failed replies" if metrics["failures"] else ""
    counts = f"{metrics['hospitals']} hospitals, {metrics['test_cases']} test cases, {len(metrics['classes'])} classes"
    return f"{counts}{failures}\nranges: {interval_words(metrics)}"
