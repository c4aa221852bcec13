"""What a folder says of its cases: the task's name, its classes in their agreed order, the modality and its views.

A hospital cannot know these from its own cases: it may lack a class that the federation has.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medtl_core.data.names import plain_name
from medtl_core.data.views import VIEWS
from medtl_core.errors import DataError, did_you_mean
from medtl_core.values import MULTI_LABEL, Task

MANIFEST = "manifest.csv"
TASK = "task.json"
#: What the columns of a table of records mean.
SCHEMA = "schema.toml"
#: What a file is called that is meant as `task.json`.
_NEAR = ("Task.json", "TASK.JSON", "TASK.json", "task.JSON", "Task.JSON", "task.json.txt", "Task.json.txt")
_MORE = {"modality": "", "views": [], "one_patient_a_row": False, "kind": "classes", "signal": {}}


@dataclass(frozen=True)
class Statement:
    """What `task.json` says; no views = those of the modality, and "" = it states none."""

    task: Task
    views: tuple[str, ...] = ()
    modality: str = ""
    one_patient_a_row: bool = False


def read_task(path: Path) -> Statement | None:
    """Returns what `task.json` in a folder, or beside a file, states; None without that file.

    Raises:
        DataError: its name is a little different, or it is not JSON of the form {"name": ..., "classes": [...], ...}.
            With "kind": "multi-label" the classes are findings, each there or not by itself.
    """
    folder = path if path.is_dir() else path.parent
    path = folder / TASK
    if not path.is_file():
        for near in (name for name in _NEAR if (folder / name).is_file()):
            raise DataError(f"{folder / near} is not read; rename it to {TASK}")
        return None
    try:
        stated = json.loads(path.read_text(encoding="utf-8-sig"), object_pairs_hook=_once)
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path} is not valid JSON in UTF-8: {error}") from error
    if not isinstance(stated, dict) or not {"name", "classes"} <= stated.keys() <= {"name", "classes", *_MORE}:
        raise DataError(f"{path} must be an object with name, classes and, optionally, {', '.join(_MORE)}")
    stated = {**_MORE, **stated}
    classes, views = stated["classes"], stated["views"]
    classes = [*map(plain_name, classes)] if _words(classes) else []
    wrong = [] if _words(classes) and len(classes) > 1 else ["classes must be a list of at least two distinct words"]
    if not all(isinstance(stated[name], str) for name in ("name", "modality")) or not (views == [] or _words(views)):
        wrong.append("name and modality must be words, views a list of words")
    if stated["kind"] not in (_MORE["kind"], MULTI_LABEL):
        wrong.append(f"kind must be {_MORE['kind']} or {MULTI_LABEL}")
    if not isinstance(stated["one_patient_a_row"], bool):
        wrong.append("one_patient_a_row must be true or false")
    wrong += [
        f"unknown view {view!r}; {did_you_mean(view, VIEWS)}"
        for view in (views if _words(views) else ())
        if view not in VIEWS
    ]
    if wrong:
        raise DataError(*(f"{path}: {cause}" for cause in wrong))
    task = Task(stated["name"], tuple(classes), stated["kind"])
    return Statement(task, tuple(views), stated["modality"], stated["one_patient_a_row"])


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """What an object states, each word of it once."""
    if len({name for name, _ in pairs}) < len(pairs):
        raise ValueError("it states a word twice")
    return dict(pairs)


def _words(value: Any) -> bool:
    """Whether it is a list of distinct words."""
    return isinstance(value, list) and all(isinstance(word, str) and value.count(word) == bool(word) for word in value)
