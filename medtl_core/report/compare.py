"""Runs side by side: the same figure of each, paired where the same cases were judged, and what differs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medtl_core.clinical.delong import Difference, areas, difference
from medtl_core.clinical.significance import holm, paired
from medtl_core.errors import RunError
from medtl_core.evaluation.result import Result
from medtl_core.report import numerals, template
from medtl_core.report.charts import forest
from medtl_core.report.clinic import Context
from medtl_core.report.estimate import Estimate
from medtl_core.report.folder import read_results, read_scores
from medtl_core.report.page import heading
from medtl_core.report.promise import shown_settings
from medtl_core.report.summary import Summary, summarise
from medtl_core.report.tables import PageTable, TableCell, TableRow, estimate_cell, plain_table, shown_place
from medtl_core.report.template import markup
from medtl_core.store import read_json
from medtl_core.values import Array, Scores

#: What decides which cases are judged.
_CASES = ("data", "data-path", "test", "test-path", "leave-out", "partition", "sites", "shots", "alpha", "seed")


@dataclass(frozen=True)
class StoredRun:
    """A run as its folder tells it; `label` tells it apart from the others."""

    label: str
    folder: Path
    results: Sequence[Result]
    summary: Summary


@dataclass(frozen=True)
class Comparison:
    """What is said of some runs.

    Attributes:
        runs: in the order named.
        figures: name of a figure -> a table, a row a method.
        against: differences to the first run; None where nothing is paired.
        differs: settings, data and versions that differ.
        remark: how differences were paired, or why they were not.
    """

    runs: Sequence[StoredRun]
    figures: Mapping[str, PageTable]
    against: PageTable | None
    differs: PageTable
    remark: str

    @property
    def tables(self) -> list[PageTable]:
        """All tables, the most important first."""
        return [*self.figures.values(), *([self.against] if self.against else []), self.differs]


def compare(folders: Sequence[Path]) -> Comparison:
    """Returns the comparison of run folders.

    Raises:
        RunError: a folder holds no run, or the runs have other classes, so that no figure means the same.
    """
    runs = _read(folders)
    for run in runs[1:]:
        if run.summary.classes != runs[0].summary.classes:
            raise RunError(
                f"{runs[0].label} and {run.label} tell other classes apart; their figures mean different things and "
                "cannot be laid side by side"
            )
    names = list(dict.fromkeys(name for run in runs for name in run.summary.methods))
    shown = [figure for figure in (runs[0].summary.main, "auroc", "worst_site") if figure in runs[0].summary.headings]
    figures = {figure: _table(runs, names, figure, runs[0].summary.headings[figure]) for figure in dict.fromkeys(shown)}
    tests, how = _tests(runs, names)
    return Comparison(runs, figures, _against(tests, how) if tests else None, _differences(runs), how)


def render(found: Comparison) -> str:
    """Returns the page of a comparison, whole in itself."""
    first = found.runs[0]
    labels = ", ".join(run.label for run in found.runs)
    pictures = [
        forest(
            {run.label: run.summary.methods[run.summary.focus].figures[figure] for run in found.runs},
            table.caption,
        )
        for figure, table in found.figures.items()
        if figure != "worst_site"
    ]
    shared = {**heading(first.summary, first.results, Context()), "title": f"Runs side by side: {labels}"}
    shared["repetitions"] = f"{len(found.runs)} runs"
    return template.render(
        "medtl_core.report", "compare.html", **shared, found=found, forest=markup("".join(pictures)), lead=found.remark
    )


def _read(folders: Sequence[Path]) -> list[StoredRun]:
    if len(folders) < 2:
        raise RunError("name at least two run folders to compare")
    labels = [folder.resolve().name for folder in folders]
    if len(set(labels)) < len(labels):
        labels = [f"{label} ({number})" for number, label in enumerate(labels, 1)]
    runs = []
    for label, folder in zip(labels, folders, strict=True):
        results = sorted(read_results(folder), key=lambda result: result.seed)
        config = read_json(folder / "config.json") if (folder / "config.json").is_file() else {}
        runs.append(StoredRun(label, folder, results, summarise(results, config.get("name", label), folder)))
    return runs


def _table(runs: Sequence[StoredRun], names: Sequence[str], figure: str, words: str) -> PageTable:
    rows = []
    for name in names:
        told = [run.summary.methods[name].figures.get(figure, Estimate()) if name in run.summary.methods else None
                for run in runs]  # fmt: skip
        cells = [TableCell("not run") if estimate is None else estimate_cell(estimate) for estimate in told]
        rows.append(TableRow(name, cells, "focus" if name == runs[0].summary.focus else ""))
    return PageTable(words[0].upper() + words[1:], ["Method", *(run.label for run in runs)], rows)


# ---- differences to the first run --------------------------------------------------------------------------------

_Tests = dict[tuple[str, str], Difference]


def _tests(runs: Sequence[StoredRun], names: Sequence[str]) -> tuple[_Tests, str]:
    """Differences of mean AUROCs (run, method) -> test, and how they were paired."""
    by_case = _by_case(runs, names)
    if by_case:
        return by_case, "Differences of mean AUROC on the very same test cases: DeLong's paired test, first seed."
    by_seed: _Tests = {}
    first = {result.seed: result for result in runs[0].results}
    for run in runs[1:]:
        pairs = [(result, first[result.seed]) for result in run.results if _same_cases(result, first.get(result.seed))]
        for name in names:
            both = [
                (ours.methods[name].judgement.figures.get("auroc"), theirs.methods[name].judgement.figures.get("auroc"))
                for ours, theirs in pairs
                if name in ours.methods and name in theirs.methods
            ]
            told = [(a, b) for a, b in both if a is not None and b is not None]
            if len(told) > 1:
                test = paired([a for a, _ in told], [b for _, b in told])
                by_seed[run.label, name] = Difference(test.mean, test.low, test.high, test.p)
    if by_seed:
        return by_seed, "Differences of AUROC paired by seed, on the same test cases: paired t-test."
    return {}, (
        "The runs are not paired: they judged other test cases, or share fewer than two seeds and kept no scores "
        "(keep-scores=true). Intervals that overlap do not say that the runs are alike."
    )


def _by_case(runs: Sequence[StoredRun], names: Sequence[str]) -> _Tests:
    """DeLong's test of the first seed of each run, where both kept the scores of the same cases."""
    ours, tests = read_scores(runs[0].folder, runs[0].results[0].seed), _Tests()
    for run in runs[1:]:
        theirs = read_scores(run.folder, run.results[0].seed)
        if not ours or not theirs or not _same_cases(run.results[0], runs[0].results[0]):
            continue
        columns = ("label", "site", "patient")
        if not all(np.array_equal(ours[name], theirs[name]) for name in columns):
            continue
        for name in names:
            key = f"logits {name}"
            if key in ours and key in theirs:
                (mine, parts), (other, others) = (areas(_scores(saved, key)).macro for saved in (theirs, ours))
                test = difference(mine - other, float(((parts - others) ** 2).sum()))
                if test is not None:
                    tests[run.label, name] = test
    return tests


def _same_cases(ours: Result, theirs: Result | None) -> bool:
    """Whether two results judged the same test cases, as far as their settings say."""
    if theirs is None or (ours.test_cases, ours.test_sites) != (theirs.test_cases, theirs.test_sites):
        return False
    return all(ours.settings.get(key) == theirs.settings.get(key) for key in _CASES)


def _scores(saved: Mapping[str, Array], key: str) -> Scores:
    return Scores(saved[key], saved["label"], saved["site"], saved["patient"], None, saved.get("labels"))


def _against(tests: _Tests, how: str) -> PageTable:
    adjusted = holm([test.p for test in tests.values()])
    rows = [
        (
            f"{name}, {run}", numerals.signed(test.gain),
            f"{numerals.signed(test.low)} to {numerals.signed(test.high)}", "< 0.001" if p < 0.001 else f"{p:.3f}",
        )
        for ((run, name), test), p in zip(tests.items(), adjusted, strict=True)
    ]  # fmt: skip
    return plain_table("Less the first run", ["Method, run", "AUROC", "95% interval", "p, after Holm"], rows)


# ---- what differs ------------------------------------------------------------------------------------------------


def _differences(runs: Sequence[StoredRun]) -> PageTable:
    """Settings, data and versions that are not the same in all runs."""
    told = [_facts(run) for run in runs]
    rows = []
    for key in dict.fromkeys(key for facts in told for key in facts):
        values = [facts.get(key, numerals.UNDEFINED) for facts in told]
        if len(set(values)) > 1:
            rows.append((key, *values))
    headings = ["What", *(run.label for run in runs)]
    return plain_table("What differs between the runs" if rows else "Nothing differs between the runs", headings, rows)


def _facts(run: StoredRun) -> dict[str, str]:
    first, summary = run.results[0], run.summary
    facts: dict[str, Any] = {
        "seeds": ", ".join(map(str, summary.seeds)), "data": first.data.title or first.data.name,
        "hospitals": summary.hospitals, "training cases": sum(first.sites.values()), "test cases": first.test_cases,
        "fingerprint of features": first.fingerprint[:12],
    }  # fmt: skip
    settings = shown_settings(first)
    facts |= {key: shown_place(key, value) for key, value in settings.items() if key not in ("seed", "data", "out")}
    facts |= {f"version of {name}": version for name, version in first.versions.items()}
    return {key: f"{value}".replace(",", ", ") or "(default)" for key, value in facts.items()}
