"""Hospitals as they are deployed, each a folder on disk, and the real ClientApp that answers for them by message.

Their cases are a table: what of a case a private sum reads are its coordinates on public directions, whatever it was.
"""

import csv
import json
import logging
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from typing import Any

import numpy as np

from medtl_core.config import Value
from medtl_core.data.task import MANIFEST, TASK
from medtl_core.errors import PrivacyError
from medtl_core.federation.tasks import SiteData
from medtl_core.flower.grid import LocalGrid, LocalOptions
from medtl_core.flower.run import load_apps
from medtl_core.privacy.hospital import Hospital, initialise
from medtl_core.privacy.identity import IDENTITY, own_identity
from medtl_core.privacy.journal import LINES
from medtl_core.privacy.ledger import LEDGER
from medtl_core.privacy.noise import Entropy
from medtl_core.privacy.policy import Policy
from medtl_core.runtime import quiet

#: What every audited hospital is called.
NAME = "audited"
#: Bytes of a folder in memory that are enough for the hospitals of an audit.
_ROOM = 2**30
#: More than any audit asks for: what the ledger refuses would hide what the gate does.
_PLENTY, _RELEASES = 1e9, 10**9
#: Hospitals that answer at the same time.
_WORKERS = 2
#: What `client` calls to draw noise.
_DRAW = "system_entropy"


def directions(count: int) -> tuple[str, ...]:
    """Returns the names of a hospital's columns, whose order is that of the names."""
    return tuple(f"direction-{number:05d}" for number in range(count))


@dataclass(frozen=True)
class Door:
    """Where the audited hospitals stand.

    Attributes:
        app: the ClientApp that a hospital runs.
        folder: below which every hospital gets one of its own.
    """

    app: Any
    folder: Path

    @classmethod
    @contextmanager
    def opened(cls, app: Path) -> Iterator["Door"]:
        """Yields the door of the app in a folder; the hospitals are gone afterwards.

        Raises:
            RunError: the folder holds no app of medtl.
        """
        with TemporaryDirectory(prefix="medtl-audit-", dir=_in_memory()) as folder:
            yield cls(load_apps(app)[1], Path(folder))

    def deploy(self, cases: SiteData, classes: Sequence[str], public: int, delta: float) -> Path:
        """Returns the folder of a new hospital with these cases; all of them share one identity, as one hospital's.

        Args:
            cases: their features are those of a table in which nothing is missing; see `as_table`.
            classes: by which labels are called.
            public: the number of patients that it has made public.
            delta: of its policy.
        """
        home = Path(mkdtemp(dir=self.folder))
        data = home / "data"
        data.mkdir()
        (data / TASK).write_text(json.dumps({"name": "audit", "classes": list(classes)}), encoding="utf-8")
        values = cases.values[:, ::2].tolist()
        with (data / MANIFEST).open("w", encoding="utf-8", newline="") as stream:
            table = csv.writer(stream)
            table.writerow(["label", "patient_id", *directions(len(values[0]))])
            for label, patient, row in zip(cases.label, cases.patients, values, strict=True):
                table.writerow([classes[label], patient, *row])
        own_identity(self.folder)
        shutil.copy(self.folder / IDENTITY, home / IDENTITY)
        policy = Policy(_PLENTY, delta, _RELEASES, public_patients=public, require_private=True)
        initialise(Hospital(home, NAME, str(data), cache="off", policy=policy))
        return home

    @contextmanager
    def asked(self, config: Mapping[str, Value], homes: Sequence[Path]) -> Iterator[LocalGrid]:
        """Yields a grid to some hospitals, nodes in their order, under a run's config.

        What the hospitals write into their own log is not shown: many a question here is one that they refuse.
        """
        nodes = [{"hospital": str(home)} for home in homes]
        with (
            quiet("flwr", logging.WARNING),
            quiet("medtl", logging.CRITICAL + 1),
            LocalGrid(self.app, nodes, config, LocalOptions(_WORKERS)) as grid,
        ):
            yield grid

    @contextmanager
    def drawing(self, draw: Callable[[], Entropy]) -> Iterator[None]:
        """Lets the hospitals draw their noise from elsewhere, a fresh stream for every release; no message can do that.

        Raises:
            PrivacyError: the app has no place where it draws noise, as far as this is known.
        """
        package = type(self.app).__module__.partition(".")[0]
        loaded = [module for name, module in sorted(sys.modules.items()) if name.startswith(f"{package}.")]
        places = {module: getattr(module, _DRAW) for module in loaded if hasattr(module, _DRAW)}
        if not places:
            raise PrivacyError(f"the app in {package!r} draws its noise where this audit cannot watch it")
        for module in places:
            setattr(module, _DRAW, draw)
        try:
            yield
        finally:
            for module, before in places.items():
                setattr(module, _DRAW, before)


def _in_memory() -> str | None:
    """A folder in memory, where there is one with room: nothing here outlives the audit, and every answer waits for its
    ledger and its receipt to be on disk. None = where temporary folders usually are.
    """
    place = Path("/dev/shm")
    return str(place) if os.access(place, os.W_OK) and shutil.disk_usage(place).free > _ROOM else None


def ledger_length(home: Path) -> int:
    """Returns how many records the ledger of a hospital holds."""
    return (home / LEDGER / LINES).read_bytes().count(b"\n")


def as_table(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Returns numbers [n, k] as a table's features [n, 2 k]: every value, and 0 for "it is not missing"."""
    return np.stack([values, np.zeros_like(values)], axis=2).reshape(len(values), -1)
