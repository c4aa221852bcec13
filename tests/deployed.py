"""A copy of the app for runs with real processes: whatever the checkout is called, and nothing is written into it."""

import shutil
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def copy_app(folder: Path, *more: str) -> Path:
    """Copies what goes into Flower's app bundle, and `more` packages, to `folder`/medtl and returns that."""
    app = folder / "medtl"
    app.mkdir(parents=True)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, app / name)
    for name in ("server", "client", "medtl_core", *more):
        shutil.copytree(ROOT / name, app / name, ignore=shutil.ignore_patterns("__pycache__"))
    return app
