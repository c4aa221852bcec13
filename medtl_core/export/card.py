"""A run's model card: what the run knows filled in, what it cannot know as named blanks.

The layout is Hugging Face's (a README with YAML in front); the items are those of TRIPOD+AI (Collins et al., BMJ 2024)
and of the Model Facts label (Sendak et al., npj Digital Medicine 2020), in our own words. The same run gives the same
bytes.
"""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medtl_core.evaluation.result import Result, RoundTrip
from medtl_core.predict.output import NOTICE
from medtl_core.report import numerals
from medtl_core.report.classes import class_figures, confusion_of
from medtl_core.report.folder import read_results
from medtl_core.report.promise import shown_settings
from medtl_core.report.summary import Summary, summarise
from medtl_core.store import read_json

#: Settings that name places on a machine or its devices, and say nothing of the head.
_PLACES = ("data-path", "test-path", "weights", "cache", "device", "out", "state")
_LAYOUT = Path(__file__).with_name("card.md.jinja")


def card(folder: Path, title: str = "") -> str:
    """Returns the model card of a run folder, in Markdown.

    Raises:
        RunError: the folder holds no results.
    """
    from jinja2 import Environment, StrictUndefined

    results = sorted(read_results(folder), key=lambda result: result.seed)
    config = read_json(folder / "config.json") if (folder / "config.json").is_file() else {}
    summary = summarise(results, title or config.get("name", folder.resolve().name), folder)
    layout = Environment(undefined=StrictUndefined, keep_trailing_newline=True, autoescape=False)
    layout.filters |= {"md": _plain, "json": lambda text: json.dumps(text, ensure_ascii=False)}
    layout.globals["blank"] = lambda who: f"_to be filled in by {who}_"
    page = layout.from_string(_LAYOUT.read_text(encoding="utf-8"))
    return page.render(**_of_summary(summary, results), **_of_results(summary, results, folder))


def _of_summary(summary: Summary, results: Sequence[Result]) -> Mapping[str, Any]:
    method = summary.methods[summary.focus]
    rows = [(key, heading, method.figures[key]) for key, heading in summary.headings.items() if key in method.figures]
    counts = confusion_of(results, summary.focus)
    told = counts is not None and len(counts) == len(summary.classes)
    return {
        "notice": NOTICE,
        "title": summary.name,
        "focus": summary.focus,
        "classes": summary.classes,
        "hospitals": summary.hospitals,
        "contamination": summary.contamination,
        "taken": method.taken,
        "interval": method.interval or summary.interval,
        "seeds": summary.seeds,
        "figures": [
            {"key": key, "heading": heading, "mean": each.mean, "figure": each.figure, "spread": each.spread}
            for key, heading, each in rows
        ],
        "mean_of_hospitals": method.mean_of_hospitals,
        "below": method.below,
        "by_hospital": sorted(method.hospitals.items()),
        "by_class": class_figures(counts, summary.classes) if told and counts is not None else (),
        "promise": summary.promise,
    }


def _of_results(summary: Summary, results: Sequence[Result], folder: Path) -> Mapping[str, Any]:
    first = results[0]
    heads = [{"seed": result.seed, **_head(folder, result.seed, summary.focus)} for result in results]
    features: Mapping[str, Any] = next((head["features"] for head in heads if head.get("features")), {})
    shown = {name: value for name, value in shown_settings(first).items() if name not in _PLACES}
    return {
        "data": first.data,
        "sites": sorted(first.sites.items()),
        "test": f"{first.test_cases} of {', '.join(map(_plain, first.test_sites))}"
        if first.test_cases
        else "those of the hospitals, judged there",
        "settings": {**first.settings},
        "shown": sorted(shown.items()),
        "tabular": first.settings.get("backbone") == "table",
        "modality": features.get("modality", ""),
        "columns": tuple(features.get("columns", ())),
        "width": first.width,
        "fingerprint": first.fingerprint,
        "versions": {"medtl": "", "torch": "", "flwr": "", "python": "", "commit": "", **first.versions},
        "heads": [head for head in heads if "sha256" in head],
        "level": next((head["level"] for head in heads if head.get("level")), None),
        "sent": _sent(first.exchanges),
    }


def _head(folder: Path, seed: int, method: str) -> Mapping[str, Any]:
    """What the manifest of a method's head says; nothing where none was saved."""
    place = folder / f"seed-{seed}" / "heads" / f"{method}.json"
    if not place.is_file():
        return {}
    manifest = read_json(place)
    facts = manifest["facts"]
    return {
        "sha256": manifest["sha256"],
        "features": facts.get("features", {}),
        "level": facts.get("conformal", {}).get("level"),
    }


def _sent(exchanges: Sequence[RoundTrip]) -> list[Mapping[str, Any]]:
    rows = list[Mapping[str, Any]]()
    for phase in dict.fromkeys(exchange.phase for exchange in exchanges):
        own = [exchange for exchange in exchanges if exchange.phase == phase]
        up, down = (numerals.size(sum(getattr(one, name) for one in own)) for name in ("bytes_up", "bytes_down"))
        rows.append(
            {"phase": phase, "times": len(own), "up": up, "down": down, "failures": sum(one.failures for one in own)}
        )
    return rows


def _plain(text: str) -> str:
    """Text that Markdown and HTML show as it is, in one line."""
    return re.sub(r"([\\`*\[\]|<>&])", lambda sign: f"&#{ord(sign[0])};", " ".join(str(text).split()))
