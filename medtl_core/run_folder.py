"""The folder of a run.

A run folder holds `config.json`, `versions.json`, `events.jsonl`, `metrics.json`, `report.html` and, for every seed N,
`seed-N/result.json` and `seed-N/heads/NAME.safetensors` with its manifest `NAME.json`. Every file appears whole or not
at all; a run that broke off leaves the file `FAILED` with the reason.
"""

import contextlib
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medtl_core.errors import MedtlError, RunError
from medtl_core.store import write_json, write_text
from medtl_core.versions import versions

#: Name of the marker a broken run leaves in its folder.
FAILED = "FAILED"


@dataclass(frozen=True)
class Run:
    """One run's folder (absolute). As a context it marks the run as failed when its body raises."""

    folder: Path

    @property
    def events_path(self) -> Path:
        """Where the run's events go, one JSON object a line."""
        return self.folder / "events.jsonl"

    def seed_folder(self, seed: int) -> Path:
        """Returns the folder of one repetition, made if it is missing."""
        folder = self.folder / f"seed-{seed}"
        folder.mkdir(exist_ok=True)
        return folder

    def begin(self, config: Mapping[str, Any]) -> None:
        """Writes `config.json` and `versions.json`."""
        write_json(self.folder / "config.json", config)
        write_json(self.folder / "versions.json", versions())

    def finish(self, metrics: Mapping[str, Any], page: str) -> None:
        """Writes `report.html` and then `metrics.json`, which marks the run as complete."""
        write_text(self.folder / "report.html", page)
        write_json(self.folder / "metrics.json", metrics)

    def __enter__(self) -> "Run":
        return self

    def __exit__(self, kind: object, error: BaseException | None, at: object) -> None:
        if error is None:
            return
        # What another library says may quote a cell of a patient's row: of its errors only the place is written.
        text = str(error) if isinstance(error, MedtlError) else _place_of(error)
        # A full or vanished disk must not hide the error that broke the run.
        with contextlib.suppress(OSError):
            write_text(self.folder / FAILED, f"{type(error).__name__}: {text}\n")


def _place_of(error: BaseException) -> str:
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    frames = traceback.extract_tb(error.__traceback__)
    return f"raised in {Path(frames[-1].filename).name}, line {frames[-1].lineno}" if frames else "no message"


def create_run(folder: Path) -> Run:
    """Claims a folder for one run: of two that start at one moment, the exclusive creation of `events.jsonl` decides.

    Raises:
        RunError: the folder holds something already, is a file, or cannot be written.
    """
    folder = Path(folder).absolute()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        taken = any(folder.iterdir())
        if not taken:
            (folder / "events.jsonl").open("x").close()
    except FileExistsError:
        taken = True
    except OSError as error:
        remedy = f"cannot be written ({error.strerror}); choose another with --out"
        raise RunError(f"the run folder {folder} {remedy}") from error
    if taken:
        raise RunError(f"the run folder {folder} is already in use; choose a new or an empty one with --out")
    return Run(folder)
