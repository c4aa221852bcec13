"""From a run folder's stored results to its `metrics.json` and `report.html`."""

from pathlib import Path

from medtl_core.errors import RunError
from medtl_core.evaluation.result import Result
from medtl_core.report import page
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


def write_report(folder: Path) -> Summary:
    """Writes `metrics.json` and `report.html` from the stored results and returns what they say.

    Raises:
        RunError: as `read_results` and `medtl_core.report.summary.summarise`.
    """
    results = read_results(folder)
    config = read_json(folder / "config.json") if (folder / "config.json").is_file() else {}
    summary = summarise(results, config.get("name", folder.resolve().name), folder)
    write_json(folder / "metrics.json", summary.as_dict())
    write_text(folder / "report.html", page.render(summary, results))
    return summary
