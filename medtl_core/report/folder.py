"""From a run folder's stored results to its `metrics.json` and `report.html`."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from medtl_core.clinical.record import Clinical
from medtl_core.errors import ConfigError, RunError, did_you_mean
from medtl_core.evaluation.result import Result
from medtl_core.report import hospital, page
from medtl_core.report.clinic import Context
from medtl_core.report.examples import Gallery
from medtl_core.report.summary import Summary, summarise
from medtl_core.store import file_names, read_json, write_json, write_text
from medtl_core.values import Array

#: Scores of every test case, where a run keeps them.
_SCORES = "scores.npz"


def read_results(folder: Path) -> list[Result]:
    """Returns the results of a run: of every `seed-N` folder, else the one of a single deployed run.

    Raises:
        RunError: the folder holds no result, or one that cannot be read.
    """
    if not folder.is_dir():
        raise RunError(f"there is no run folder {folder}")
    paths = sorted(folder.glob("seed-*/result.json")) or [path for path in [folder / "result.json"] if path.is_file()]
    if not paths:
        failed = " (the run failed: see its file FAILED)" if (folder / "FAILED").exists() else ""
        raise RunError(f"{folder} holds no seed-*/result.json{failed}; give the folder that `medtl simulate` printed")
    return [Result.read(path) for path in paths]


def read_context(folder: Path, results: Sequence[Result], prevalence: Mapping[str, float] | None = None) -> Context:
    """Returns what a run's folder holds beside the results: its date, and figures for a clinic of every seed or none.

    Raises:
        RunError: a record is damaged.
    """
    config = _config(folder)
    places = [folder / f"seed-{result.seed}" for result in results]
    found = [Clinical.read(place if place.is_dir() else folder) for place in places]
    told = [record for record in found if record is not None]
    return Context(told if len(told) == len(results) else (), config.get("begun", ""), prevalence or {})


def read_scores(folder: Path, seed: int) -> dict[str, Array]:
    """Returns what `scores.npz` of a run's seed holds; nothing where it was not kept.

    Raises:
        RunError: it is damaged.
    """
    for place in (folder / f"seed-{seed}" / _SCORES, folder / _SCORES):
        if place.is_file():
            try:
                with place.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
                    return {name: file[name] for name in file.files}
            except (OSError, ValueError, BadZipFile) as error:
                raise RunError(f"{place} cannot be read ({error}); remove it, or run the study again") from error
    return {}


def write_report(
    folder: Path, prevalence: Mapping[str, float] | None = None, gallery: Gallery | None = None
) -> Summary:
    """Writes `metrics.json` and `report.html` from the stored results and returns what they say.

    Args:
        folder: of the run.
        prevalence: how common classes are where the reader is, for predictive values.
        gallery: test cases to show in pictures; None = no picture is on the page.

    Raises:
        RunError: as `read_results` and `medtl_core.report.summary.summarise`.
    """
    results, summary = _read(folder)
    _check(prevalence or {}, summary.classes)
    write_json(folder / "metrics.json", summary.as_dict())
    context = replace(read_context(folder, results, prevalence), gallery=gallery)
    write_text(folder / "report.html", page.render(summary, results, context))
    return summary


def write_hospital(folder: Path, site: str) -> Path:
    """Writes the page that one hospital of a run can print for itself, and returns its place.

    Raises:
        RunError: as `read_results`, or the run has judged no case of the hospital.
    """
    results, summary = _read(folder)
    page_of = hospital.render(summary, results, site, read_context(folder, results))
    place = folder / f"hospital-{file_names([site])[site]}.html"
    write_text(place, page_of)
    return place


def _config(folder: Path) -> Mapping[str, Any]:
    """What a run wrote of itself when it began; nothing of a single deployed run."""
    return read_json(folder / "config.json") if (folder / "config.json").is_file() else {}


def _read(folder: Path) -> tuple[list[Result], Summary]:
    results = sorted(read_results(folder), key=lambda result: result.seed)
    config = _config(folder)
    return results, summarise(results, config.get("name", folder.resolve().name), folder)


def _check(prevalence: Mapping[str, float], classes: Sequence[str]) -> None:
    """Refuses shares of classes that the run does not know, or that are none."""
    for name, share in prevalence.items():
        if name not in classes:
            raise ConfigError(
                f"prevalence names {name!r}, which is no class of this run; {did_you_mean(name, classes)}"
            )
        if not 0 < share < 1:
            raise ConfigError(f"prevalence {name}={share:g} must lie between 0 and 1")
