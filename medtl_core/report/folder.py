"""From a run folder's stored results to its `metrics.json` and `report.html`."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from medtl_core.clinical.record import Clinical
from medtl_core.errors import RunError
from medtl_core.evaluation.result import Result
from medtl_core.report import page
from medtl_core.report.clinic import Context
from medtl_core.report.summary import Summary, summarise
from medtl_core.store import read_json, write_json, write_text


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
    config = read_json(folder / "config.json") if (folder / "config.json").is_file() else {}
    places = [folder / f"seed-{result.seed}" for result in results]
    found = [Clinical.read(place if place.is_dir() else folder) for place in places]
    told = [record for record in found if record is not None]
    return Context(told if len(told) == len(results) else (), config.get("begun", ""), prevalence or {})


def write_report(folder: Path, prevalence: Mapping[str, float] | None = None) -> Summary:
    """Writes `metrics.json` and `report.html` from the stored results and returns what they say.

    Args:
        folder: of the run.
        prevalence: how common classes are where the reader is, for predictive values.

    Raises:
        RunError: as `read_results` and `medtl_core.report.summary.summarise`.
    """
    results = read_results(folder)
    config = read_json(folder / "config.json") if (folder / "config.json").is_file() else {}
    summary = summarise(results, config.get("name", folder.resolve().name), folder)
    write_json(folder / "metrics.json", summary.as_dict())
    ordered = sorted(results, key=lambda result: result.seed)
    write_text(folder / "report.html", page.render(summary, results, read_context(folder, ordered, prevalence)))
    return summary
