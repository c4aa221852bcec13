"""Keeps early replies until it is their turn: a few in memory, the rest on disk."""

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from medtl_core.federation.hospitals import Reply


class ReplyBuffer:
    """Replies by place. At most `room` are in memory, so one slow hospital does not make the server hold all others."""

    def __init__(self, room: int) -> None:
        self._room = room
        self._near: dict[int, Reply | None] = {}
        self._far: dict[int, tuple[Reply, tuple[str, ...]]] = {}
        self._folder: TemporaryDirectory[str] | None = None

    def __contains__(self, place: int) -> bool:
        return place in self._near or place in self._far

    def put(self, place: int, reply: Reply | None) -> None:
        """Keeps a reply, or None for a place whose reply will never come."""
        if reply is None or sum(early is not None for early in self._near.values()) < self._room:
            self._near[place] = reply
            return
        if self._folder is None:
            self._folder = TemporaryDirectory(prefix="medtl-replies-")
        names = tuple(reply.arrays)
        np.savez(self._file(self._folder, place), *(reply.arrays[name] for name in names))
        self._far[place] = (replace(reply, arrays={}), names)

    def pop(self, place: int) -> Reply | None:
        """Gives a reply back, exactly as it was put.

        Raises:
            KeyError: nothing is kept there.
        """
        if place in self._near or self._folder is None:
            return self._near.pop(place)
        bare, names = self._far.pop(place)
        file = self._file(self._folder, place)
        with np.load(file, allow_pickle=False) as stored:
            arrays = {name: stored[f"arr_{index}"] for index, name in enumerate(names)}
        file.unlink()
        return replace(bare, arrays=arrays)

    def close(self) -> None:
        """Removes what was never taken."""
        self._near.clear()
        self._far.clear()
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    @staticmethod
    def _file(folder: "TemporaryDirectory[str]", place: int) -> Path:
        return Path(folder.name) / f"{place}.npz"
