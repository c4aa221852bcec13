"""The report: one self-contained HTML page a person can read, print and pass on."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medtl_core.report import bars, numerals, pool, sections, template
from medtl_core.report.summary import Result, focus, interval_words, role
from medtl_core.report.template import markup

#: Settings whose values are places on the machine that ran; the page shows their last part only.
_PLACES = ("out", "cache", "data-path", "test-path", "weights")


def render(metrics: Mapping[str, Any], results: Sequence[Result]) -> str:
    """Returns the report page of a run.

    The page is whole in itself: no script, no font, no picture and no address is fetched. The same input gives the
    same text.

    Args:
        metrics: as `medtl_core.report.summary.aggregate` gives them; `"name"`, where present, is the title.
        results: the results they were made from.
    """
    return template.render(
        "medtl_core.report",
        **_head(metrics, results),
        **_methods(metrics),
        **_sites(metrics, results),
        **_calibration(metrics, results),
        **_rounds(results),
        **_run(results),
        plots=_plots(metrics, results),
    )


def is_synthetic(results: Sequence[Result]) -> bool:
    """Returns whether the cases were made by a program: results say so, or name the built-in phantom."""
    return any(
        result.get("data", {}).get("synthetic") is True or result["settings"].get("data") == "phantom"
        for result in results
    )


def _plots(metrics: Mapping[str, Any], results: Sequence[Result]) -> dict[str, Any]:
    chosen = focus(metrics)
    exchanges = pool.exchanges(results)
    drawn = {
        "comparison": sections.method_plot(metrics),
        "roc": sections.roc_plot(results, chosen),
        "sites": sections.site_plot(results, sections.compared_at_sites(metrics, results)),
        "reliability": sections.reliability_plot(results, chosen),
        "rounds": bars.round_bars(exchanges) if exchanges else "",
    }
    return {name: markup(plot) for name, plot in drawn.items()}


def _head(metrics: Mapping[str, Any], results: Sequence[Result]) -> dict[str, Any]:
    settings, about = results[0]["settings"], results[0].get("data", {})
    data = about.get("title") or settings.get("data") or Path(str(settings.get("data-path", ""))).name
    name = metrics.get("name") or data
    seeds = len(metrics["seeds"])
    repeats = f"{seeds} seeds" if seeds > 1 else f"seed {metrics['seeds'][0]}"
    return {
        "title": f"Federated transfer learning: {name}" if name else "Federated transfer learning",
        "subtitle": f"Data: {data or 'not named'} · {', '.join(metrics['classes'])} · {repeats}",
        "synthetic": is_synthetic(results),
        "lead": _lead(metrics, results),
        "tiles": _tiles(metrics, results),
        "focus": focus(metrics),
        "chance": numerals.figure(1 / len(metrics["classes"])),
        "judged": _judged(metrics),
        "undefined": numerals.UNDEFINED,
        "medtl_version": results[0].get("versions", {}).get("medtl", ""),
    }


def _lead(metrics: Mapping[str, Any], results: Sequence[Result]) -> str:
    chosen = focus(metrics)
    method = metrics["methods"][chosen]
    found = method["balanced_accuracy"]
    spread = numerals.spread(found)
    words = f"With {_training_cases(results)} at each of {metrics['hospitals']} hospitals, {chosen} reached a balanced "
    words += f"accuracy of {numerals.figure(found['mean'])}" + (f" ({spread})" if spread else "")
    against = method.get("versus_local", {}).get("balanced_accuracy", {}).get("mean")
    if against is not None:
        words += f", {abs(against):.3f} {'more' if against >= 0 else 'less'} than hospitals that train alone"
    words += "."
    if method["bytes_up"]:
        words += f" Each hospital sent {numerals.size(method['bytes_up'])} for it; no case left its hospital."
    if chosen != "auto":
        words += f" {chosen} is the best federated method on these very test cases, so expect a little less elsewhere."
    return words


def _tiles(metrics: Mapping[str, Any], results: Sequence[Result]) -> list[dict[str, str]]:
    chosen = focus(metrics)
    method = metrics["methods"][chosen]
    pooled = next((name for name in metrics["methods"] if role(name) == "pooled"), None)
    tiles = [
        ("Balanced accuracy", numerals.figure(method["balanced_accuracy"]["mean"]), chosen),
        ("AUROC", numerals.figure(method["auroc"]["mean"]), chosen),
    ]
    if pooled is not None:
        best = metrics["methods"][pooled]["balanced_accuracy"]["mean"]
        tiles.append(("If all cases were pooled", numerals.figure(best), "balanced accuracy"))
    tiles += [
        ("Hospitals", str(metrics["hospitals"]), f"{_training_cases(results)} each"),
        ("Test cases", str(metrics["test_cases"] or "at hospitals"), f"{len(metrics['classes'])} classes"),
        ("Sent by a hospital", numerals.size(method["bytes_up"]), f"in {method['rounds'] or 0:g} rounds"),
    ]
    return [{"name": name, "value": value, "note": note} for name, value, note in tiles]


def _judged(metrics: Mapping[str, Any]) -> str:
    if metrics["test_cases"]:
        return f"are judged on the same {metrics['test_cases']} test cases"
    return "are judged by sums over the cases that each hospital holds back"


def _methods(metrics: Mapping[str, Any]) -> dict[str, Any]:
    single = len(metrics["seeds"]) == 1
    if single:
        words = (
            "The 95% interval of a bootstrap over the patients of the test set: how much the figure would vary with "
            "other patients. It does not say how much it would vary with other training cases; run several seeds "
            "for that."
        )
    else:
        words = (
            f"The 95% t-interval over {len(metrics['seeds'])} seeds: each seed draws other training cases for every "
            "hospital and judges on the same test set. Differences to local are paired by seed."
        )
    return {
        "method_tables": sections.method_tables(metrics),
        "interval_note": f"Lines and small print: {interval_words(metrics)}.",
        "interval_words": words,
    }


def _sites(metrics: Mapping[str, Any], results: Sequence[Result]) -> dict[str, Any]:
    methods = sections.compared_at_sites(metrics, results)
    table = sections.site_table(results, methods)
    note = "A model that is good on average may fail one hospital. Each site is judged on its own test cases."
    if len(table.rows) > sections.MOST_PANELS:
        note += (
            f" The {sections.MOST_PANELS} sites with the most cases are drawn; the table lists all {len(table.rows)}."
        )
    return {"site_table": table, "sites_note": note}


def _calibration(metrics: Mapping[str, Any], results: Sequence[Result]) -> dict[str, Any]:
    chosen = focus(metrics)
    others = [
        {
            "name": name,
            "roc": markup(sections.roc_plot(results, name)),
            "reliability": markup(sections.reliability_plot(results, name)),
        }
        for name in metrics["methods"]
        if name != chosen
    ]
    return {
        "reliability_table": sections.reliability_table(results, chosen),
        "others": [other for other in others if other["roc"] or other["reliability"]],
    }


def _rounds(results: Sequence[Result]) -> dict[str, Any]:
    exchanges = pool.exchanges(results)
    return {
        "phase_table": sections.phase_table(exchanges),
        "exchange_table": sections.exchange_table(exchanges),
        "seeds_note": ", averaged over the seeds" if len(results) > 1 else "",
        "failure_table": sections.failure_table(results),
    }


def _run(results: Sequence[Result]) -> dict[str, Any]:
    first = results[0]
    settings = {
        key: Path(str(value)).name if key in _PLACES and value else value for key, value in first["settings"].items()
    }
    hospitals = [sections.line(name, f"{weight}") for name, weight in sorted(first["sites"].items())]
    chosen = [sections.line(key, f"{value}" if value != "" else "(default)") for key, value in sorted(settings.items())]
    versions = [sections.line(name, f"{value}") for name, value in first.get("versions", {}).items()]
    about = [sections.line(key, f"{value}") for key, value in _about_data(first).items()]
    of_seed = f" (seed {first['seed']})" if len(results) > 1 else ""
    return {
        "fact_tables": [
            *([sections.Table("Data", ["Fact", "Value"], about)] if about else []),
            sections.Table("Hospitals", ["Hospital", f"Training cases{of_seed}"], hospitals),
            sections.Table("Settings", ["Setting", "Value"], chosen),
            sections.Table("Versions", ["Part", "Version"], versions),
        ]
    }


def _about_data(result: Result) -> dict[str, Any]:
    about = result.get("data", {})
    facts = {key: about[key] for key in ("name", "title", "licence") if about.get(key)}
    return facts | ({"notes": " ".join(about["notes"])} if about.get("notes") else {})


def _training_cases(results: Sequence[Result]) -> str:
    weights = [int(weight) for result in results for weight in result["sites"].values()]
    low, high = min(weights, default=0), max(weights, default=0)
    return f"{low} training cases" if low == high else f"{low} to {high} training cases"
