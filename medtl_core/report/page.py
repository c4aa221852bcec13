"""The report of a run: one self-contained HTML page a person can read, print and pass on."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medtl_core.clinical.ranking import mean_recall
from medtl_core.clinical.significance import over_hospitals
from medtl_core.evaluation.result import Result
from medtl_core.report import charts, classes, clinic, curves, labels, numerals, pool, tables, template
from medtl_core.report.clinic import Clinic, Context
from medtl_core.report.differences import against_table
from medtl_core.report.estimate import Estimate
from medtl_core.report.groups import RANKED
from medtl_core.report.likely import likely_table
from medtl_core.report.summary import Summary, role
from medtl_core.report.template import markup
from medtl_core.rng import stream

#: More panels than this in one grid of ROC curves cannot be read; the table still lists every site.
MOST_PANELS = 24


def render(summary: Summary, results: Sequence[Result], context: Context = Context()) -> str:
    """Returns the report page of a run.

    The page is whole in itself: no script, no font, no picture and no address is fetched. The same input gives the
    same text.

    Args:
        summary: of the run; its name is the title.
        results: those it was made from.
        context: what else the run's folder holds.
    """
    first, chosen = results[0], summary.focus
    pooled = (method for other, method in summary.methods.items() if role(other) == "pooled")
    estimates = {method: outcome.figures for method, outcome in summary.methods.items()}
    references = [method for method in estimates if role(method) != "federated"]
    return template.render(
        "medtl_core.report",
        **heading(summary, results, context),
        lead=_lead(summary, results),
        summary=summary,
        focus=chosen,
        method=summary.methods[chosen],
        pooled=next(pooled, None),
        training_cases=_training_cases(results),
        forest_plot=markup(charts.forest_plot(estimates, references, chosen)),
        method_tables=tables.method_tables(summary),
        choice_table=tables.choice_table(results, chosen),
        plots={method: _plots(results, method) for method in summary.methods},
        most_panels=MOST_PANELS,
        reliability_table=tables.reliability_table(pool.reliability(results, chosen)),
        failure_table=tables.failure_table(results),
        fact_tables=tables.fact_tables(first, f" (seed {first.seed})" if len(results) > 1 else ""),
        label_tables=labels.label_tables(summary),
        label_roc=markup(labels.label_curves(results, chosen, summary.methods[chosen].labels)),
        class_tables=[] if summary.methods[chosen].labels else classes.class_tables(results, chosen, summary.classes),
        gallery=context.gallery,
        likely_table=likely_table(context.clinical, summary.focus),
        **_sites(summary, results),
        **_clinic(summary, results, context),
        **_exchanges(results),
    )


def heading(summary: Summary, results: Sequence[Result], context: Context) -> dict[str, Any]:
    """Returns what the head of a run's page says."""
    first, seeds = results[0], len(summary.seeds)
    data = first.data.title or first.settings.get("data") or Path(f"{first.settings.get('data-path', '')}").name
    name = summary.name or data
    return {
        "title": f"Federated transfer learning: {name}" if name else "Federated transfer learning",
        "data": data,
        "classes": summary.classes,
        "repetitions": f"{seeds} seeds" if seeds > 1 else f"seed {summary.seeds[0]}",
        "begun": context.begun,
        "synthetic": any(result.data.synthetic or result.settings.get("data") == "phantom" for result in results),
        "contamination": summary.contamination,
        "versions": first.versions,
        "fingerprint": first.fingerprint,
    }


def _clinic(summary: Summary, results: Sequence[Result], context: Context) -> dict[str, object]:
    """Ranks, thresholds, groups and trust, where the run left a record of them; empty where it did not."""
    found = Clinic.of(context.clinical, summary.focus)
    counts = classes.confusion_of(results, summary.focus)
    predictive = None
    if counts is not None and len(counts) == len(summary.classes):
        predictive = clinic.predictive_table(counts, summary.classes, context.prevalence)
    return {
        "class_roc": markup(found.roc()),
        "ranking_table": found.ranking_table(),
        "operating_table": found.operating_table(context.prevalence),
        "level_table": found.level_table(),
        "predictive_table": predictive,
        "benefit": markup(found.benefit()),
        "kept": markup(found.kept()),
        "groups": [(name, markup(plot), table) for name, plot, table in found.groups()],
        "trust_table": found.trust_table(),
        "against_table": against_table(context.clinical, summary.focus) if context.clinical else None,
    }


def _sites(summary: Summary, results: Sequence[Result]) -> dict[str, object]:
    """The forest plot and the table of sites, and how sure the mean of hospitals is."""
    sites = {method: figures for method in _compared(summary) if (figures := pool.by_site(results, method))}
    drawn = pool.largest(sites.get(summary.focus, {}), MOST_PANELS)
    values = list(summary.methods[summary.focus].hospitals.values())
    mean = over_hospitals(values, rng=stream(0, "hospitals")) if len(values) > 1 else None
    return {
        "site_forest": markup(_site_forest(summary, results, drawn) if drawn else ""),
        "site_table": tables.site_table(sites),
        "mean_interval": "–".join(map(numerals.figure, mean)) if mean else "",  # noqa: RUF001
    }


def _site_forest(summary: Summary, results: Sequence[Result], drawn: Mapping[str, pool.SiteSummary]) -> str:
    """Every hospital's main figure with its interval under that of all cases, in name order."""
    focus, figure = summary.focus, summary.main
    rows, few = {"all cases": summary.methods[focus].figures[figure]}, []
    for name, site in drawn.items():
        estimate: Estimate = getattr(site, figure)
        counts = classes.confusion_of(results, focus, name)
        shown = [] if counts is None else [row.sum() for row in counts if row.sum()]
        if len(results) == 1 and counts is not None and (told := mean_recall(counts)):
            estimate = Estimate(*told) if estimate.mean is not None else estimate
        label = f"{name} ({site.cases:.0f})"
        rows[label] = estimate
        if min(shown, default=RANKED) < RANKED:
            few.append(label)
    return charts.forest(rows, f"{summary.headings[figure].capitalize()} of {focus}", few, "all cases")


def _exchanges(results: Sequence[Result]) -> dict[str, object]:
    """The chart and the tables of exchanges."""
    rows = pool.exchanges(results)
    phases = dict.fromkeys(row.phase for row in rows)
    sums = [
        {phase: sum(getattr(row, way) for row in rows if row.phase == phase) for phase in phases}
        for way in ("bytes_up", "bytes_down", "seconds")
    ]
    shown = {"phase_table": tables.phase_table(rows), "exchange_table": tables.exchange_table(rows)}
    return {"phase_bars": markup(charts.phase_bars(*sums)), **shown}


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
    if method.mean_of_hospitals.mean is not None:
        words += f" Hospital by hospital it is {method.mean_of_hospitals.figure} on average."
    if method.taken:
        words += f" By cross-validation it took {method.taken}."
    if method.cost.bytes_up:
        words += f" Each hospital sent {numerals.size(method.cost.bytes_up)} for it; no case left its hospital."
    if chosen != "auto" and len(summary.methods) > 1:
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
