"""A deployed hospital's folder, as `medtl site init` makes it."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from medtl_core.privacy.hospital import Hospital, initialise
from medtl_core.privacy.identity import public_identity


def made_hospital(folder: Path, name: str, data: Path, **own: Any) -> dict[str, str]:
    """Makes the folder of a hospital with cases at `data`, and returns its node config."""
    initialise(Hospital(folder, name, str(data), **own))
    return {"hospital": str(folder)}


def peers_of(folders: Iterable[Path]) -> dict[str, str]:
    """Returns the identities of hospitals whose folders have their names, for the [peers] of each of them."""
    return {folder.name: public_identity(folder) for folder in folders}
