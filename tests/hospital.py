"""A deployed hospital's folder, as `medtl site init` makes it."""

from pathlib import Path
from typing import Any

from medtl_core.privacy.hospital import Hospital, initialise


def made_hospital(folder: Path, name: str, data: Path, **own: Any) -> dict[str, str]:
    """Makes the folder of a hospital with cases at `data`, and returns its node config."""
    initialise(Hospital(folder, name, str(data), **own))
    return {"hospital": str(folder)}
