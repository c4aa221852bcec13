"""The report of a run: one self-contained HTML page a person can read, print and pass on."""

from collections.abc import Sequence
from pathlib import Path

from medtl_core.evaluation.result import Result
from medtl_core.report import charts, classes, curves, labels, numerals, pool, tables, template
from medtl_core.report.summary import Summary, role
from medtl_core.report.template import markup

#: More panels than this in one grid of ROC curves cannot be read; the table still lists every site.
MOST_PANELS = 24


def render(summary: Summary, results: Sequence[Result]) -> str:
    """Returns the report page of a run.

    The page is whole in itself: no script, no font, no picture and no address is fetched. The same input gives the
    same text.

    Args:
        summary: of the run; its name is the title.
        results: those it was made from.
    """
    first, chosen, seeds = results[0], summary.focus, len(summary.seeds)
    data = first.data.title or first.settings.get("data") or Path(f"{first.settings.get('data-path', '')}").name
    name = summary.name or data
    pooled = (method for other, method in summary.methods.items() if role(other) == "pooled")
    estimates = {method: outcome.figures for method, outcome in summary.methods.items()}
    references = [method for method in estimates if role(method) != "federated"]
    return template.render(
        "medtl_core.report",
        title=f"Federated transfer learning: {name}" if name else "Federated transfer learning",
        data=data,
        classes=summary.classes,
        repetitions=f"{seeds} seeds" if seeds > 1 else f"seed {summary.seeds[0]}",
        synthetic=any(result.data.synthetic or result.settings.get("data") == "phantom" for result in results),
        contamination=summary.contamination,
        lead=_lead(summary, results),
        versions=first.versions,
        summary=summary,
        focus=chosen,
        method=summary.methods[chosen],
        pooled=next(pooled, None),
        training_cases=_training_cases(results),
        forest_plot=markup(charts.forest_plot(estimates, references, chosen)),
        method_tables=tables.method_tables(summary),
        plots={method: _plots(results, method) for method in summary.methods},
        most_panels=MOST_PANELS,
        reliability_table=tables.reliability_table(pool.reliability(results, chosen)),
        failure_table=tables.failure_table(results),
        fact_tables=tables.fact_tables(first, f" (seed {first.seed})" if len(results) > 1 else ""),
        label_tables=labels.label_tables(summary),
        label_roc=markup(labels.label_curves(results, chosen, summary.methods[chosen].labels)),
        class_tables=[] if summary.methods[chosen].labels else classes.class_tables(results, chosen, summary.classes),
        **_sites(summary, results),
        **_exchanges(results),
    )


def _sites(summary: Summary, results: Sequence[Result]) -> dict[str, object]:
    """The chart and the table of sites."""
    sites = {method: figures for method in _compared(summary) if (figures := pool.by_site(results, method))}
    drawn = {method: pool.largest(figures, MOST_PANELS) for method, figures in sites.items()}
    bars = charts.site_bars(drawn, summary.main) if drawn else ""
    return {"site_bars": markup(bars), "site_table": tables.site_table(sites)}


def _exchanges(results: Sequence[Result]) -> dict[str, object]:
    """The chart and the tables of exchanges."""
    rows = pool.exchanges(results)
    shown = {"phase_table": tables.phase_table(rows), "exchange_table": tables.exchange_table(rows)}
    return {"round_bars": markup(charts.round_bars(rows)), **shown}


def _lead(summary: Summary, results: Sequence[Result]) -> str:
    """Returns the first sentences of the page: what the method looked at closely reached, and at what cost."""
    chosen, method = summary.focus, summary.methods[summary.focus]
    words = f"With {_training_cases(results)} at each of {summary.hospitals} hospitals, {chosen} reached a "
    reached = method.figures[summary.main]
    words += f"{summary.headings[summary.main]} of {reached.figure}" + (
        f" ({reached.spread})" if reached.spread else ""
    )
    gain = method.gains[summary.main].mean if method.gains else None
    if gain is not None:
        words += f", {abs(gain):.3f} {'more' if gain >= 0 else 'less'} than hospitals that train alone"
    words += "."
    if method.taken:
        words += f" By cross-validation it took {method.taken}."
    if method.cost.bytes_up:
        words += f" Each hospital sent {numerals.size(method.cost.bytes_up)} for it; no case left its hospital."
    if chosen != "auto":
        words += f" {chosen} is the best federated method on these very test cases, so expect a little less elsewhere."
    return words


def _compared(summary: Summary) -> list[str]:
    """Returns up to three methods to compare by site: the one looked at, then local, then pooled."""
    local, pooled = ([name for name in summary.methods if role(name) == kind][:1] for kind in ("local", "pooled"))
    return list(dict.fromkeys([summary.focus, *local, *pooled]))


def _plots(results: Sequence[Result], method: str) -> dict[str, str]:
    """Returns a method's ROC curves, one panel a site, and its reliability diagram; empty where nothing was stored."""
    sites = pool.largest(pool.by_site(results, method), MOST_PANELS)
    overall, bins = pool.roc(results, method), pool.reliability(results, method)
    by_site = {site: pool.roc(results, method, site) for site in sites}
    roc = curves.roc_grid(sites, by_site, overall, f"ROC by site, {method}") if overall or any(by_site.values()) else ""
    reliability = curves.reliability_diagram(bins, f"Reliability, {method}") if bins else ""
    return {"roc": markup(roc), "reliability": markup(reliability)}


def _training_cases(results: Sequence[Result]) -> str:
    weights = [int(weight) for result in results for weight in result.sites.values()]
    low, high = min(weights, default=0), max(weights, default=0)
    return f"{low} training cases" if low == high else f"{low} to {high} training cases"
