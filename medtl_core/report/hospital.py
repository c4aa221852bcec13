"""A page that a hospital can print for itself: its own figures beside the federation's, without another one's name."""

from collections.abc import Sequence

from medtl_core.clinical.ranking import mean_recall
from medtl_core.errors import RunError, did_you_mean
from medtl_core.evaluation.result import Result
from medtl_core.report import charts, classes, curves, numerals, pool, template
from medtl_core.report.clinic import Context
from medtl_core.report.curves import RocPanel
from medtl_core.report.estimate import Estimate
from medtl_core.report.groups import RANKED
from medtl_core.report.likely import likely_table
from medtl_core.report.page import heading
from medtl_core.report.summary import Summary
from medtl_core.report.tables import PageTable, TableCell, TableRow, estimate_cell
from medtl_core.report.template import markup


def render(summary: Summary, results: Sequence[Result], site: str, context: Context) -> str:
    """Returns the page of one site of a run.

    Raises:
        RunError: the run has judged no case of such a site.
    """
    focus, method = summary.focus, summary.methods[summary.focus]
    sites = pool.by_site(results, focus)
    if site not in sites:
        raise RunError(f"no test case of {site!r} was judged in this run; {did_you_mean(site, sites)}")
    own, counts = sites[site], classes.confusion_of(results, focus, site)
    estimate: Estimate = getattr(own, summary.main)
    if len(results) == 1 and counts is not None and estimate.mean is not None:
        estimate = Estimate(*(mean_recall(counts) or (None, None, None)))
    everyone = method.figures[summary.main]
    label = f"{site} ({own.cases:.0f})"
    shown = [] if counts is None else [row.sum() for row in counts if row.sum()]
    few = [label] if min(shown, default=RANKED) < RANKED else []
    words = summary.headings[summary.main]
    panel = RocPanel(site, pool.roc(results, focus, site), own.auroc, f"{own.cases:.0f} test cases")
    trained = sum(result.sites.get(site, 0) for result in results) / len(results)
    return template.render(
        "medtl_core.report",
        "hospital.html",
        **{**heading(summary, results, context), "title": f"{site}: its figures in {summary.name or 'the federation'}"},
        lead=f"On the {own.cases:.0f} test cases of {site}, {focus} reaches a {words} of {_told(estimate)}; over all "
        f"test cases of the federation it is {_told(everyone)}.",
        site=site,
        focus=focus,
        below=site in method.below,
        tiles=[
            (words.capitalize(), estimate.figure, "here"),
            ("Over all cases", everyone.figure, words),
            ("Test cases here", f"{own.cases:.0f}", f"of {summary.test_cases}" if summary.test_cases else ""),
            ("Training cases", f"{trained:.0f}" if trained else numerals.UNDEFINED, "given by this hospital"),
            ("Sent", numerals.size(method.cost.bytes_up), "by a hospital, on average"),
        ],
        forest=markup(charts.forest({"all cases": everyone, label: estimate}, words.capitalize(), few, label)),
        roc=markup(curves.roc_panel(panel, f"ROC, {focus}", pool.roc(results, focus), large=True)),
        beside=_beside(summary, own, estimate),
        class_tables=_class_tables(counts, summary.classes),
        likely_table=likely_table(context.clinical, focus, only=site),
    )


def _told(estimate: Estimate) -> str:
    return f"{estimate.figure} ({estimate.spread})" if estimate.spread else estimate.figure


def _beside(summary: Summary, own: pool.SiteSummary, estimate: Estimate) -> PageTable:
    method = summary.methods[summary.focus]
    words, main = summary.headings[summary.main].capitalize(), method.figures[summary.main]
    rows = [TableRow("here", [estimate_cell(estimate), estimate_cell(own.auroc)], "focus")]
    rows.append(
        TableRow("all test cases", [estimate_cell(main), estimate_cell(method.figures.get("auroc", Estimate()))])
    )
    if method.mean_of_hospitals.mean is not None:
        mean = method.mean_of_hospitals
        rows.append(
            TableRow(
                "mean of hospitals", [TableCell(mean.figure, f"from {mean.spread}"), TableCell(numerals.UNDEFINED)]
            )
        )
    return PageTable(f"{summary.focus}, here and elsewhere", ["Where", words, "AUROC"], rows)


def _class_tables(counts: classes.Float | None, names: Sequence[str]) -> list[PageTable]:
    if counts is None or len(counts) != len(names):
        return []
    return classes.tables_of(counts, names)
