"""What a folder says of its cases: the task's name, its classes in their agreed order, the views that keep the label.

A hospital cannot know these from its own cases: it may lack a class that the federation has.
"""

import json
from pathlib import Path
from typing import Any

from medtl_core.data.views import VIEWS
from medtl_core.errors import DataError, did_you_mean
from medtl_core.values import Task

MANIFEST = "manifest.csv"
TASK = "task.json"


def read_task(path: Path) -> tuple[Task, tuple[str, ...]] | None:
    """Returns the task and the views that `task.json` in a folder, or beside a file, states; None without that file.

    Raises:
        DataError: the file is not JSON of the form {"name": ..., "classes": [...], "views": [...]}.
    """
    path = (path if path.is_dir() else path.parent) / TASK
    if not path.is_file():
        return None
    try:
        stated = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} is not valid JSON: {error}") from error
    if not isinstance(stated, dict) or not {"name", "classes"} <= stated.keys() <= {"name", "classes", "views"}:
        raise DataError(f"{path} must be an object with name, classes and, optionally, views")
    classes, views = stated["classes"], stated.get("views", [])
    if not _words(classes) or len(classes) < 2:
        raise DataError(f"{path}: classes must be a list of at least two distinct words")
    if not isinstance(stated["name"], str) or not (views == [] or _words(views)):
        raise DataError(f"{path}: name must be a word, views a list of words")
    for view in views:
        if view not in VIEWS:
            raise DataError(f"{path}: unknown view {view!r}; {did_you_mean(view, VIEWS)}")
    return Task(stated["name"], tuple(classes)), tuple(views)


def _words(value: Any) -> bool:
    """Whether it is a list of distinct words."""
    return isinstance(value, list) and all(isinstance(word, str) and value.count(word) == bool(word) for word in value)
