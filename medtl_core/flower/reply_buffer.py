"""Keeps early replies until it is their turn: a few in memory, the rest on disk."""

from dataclasses import replace
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from medtl_core.federation.hospitals import Reply


class ReplyBuffer:
    """Replies by place. At most `room` are in memory, so one slow hospital does not make the server hold all others."""

    def __init__(self, room: int) -> None:
        self._room = room
        self._replies: dict[int, Reply | None] = {}
        self._on_disk: dict[int, tuple[str, ...]] = {}

    def __contains__(self, place: int) -> bool:
        return place in self._replies

    def put(self, place: int, reply: Reply | None) -> None:
        """Keeps a reply, or None for a place whose reply will never come."""
        in_memory = sum(kept is not None for kept in self._replies.values()) - len(self._on_disk)
        if reply is not None and in_memory >= self._room:
            np.savez(self._file(place), *reply.arrays.values())
            self._on_disk[place] = tuple(reply.arrays)
            reply = replace(reply, arrays={})
        self._replies[place] = reply

    def pop(self, place: int) -> Reply | None:
        """Gives a reply back, exactly as it was put."""
        reply, names = self._replies.pop(place), self._on_disk.pop(place, None)
        if reply is None or names is None:
            return reply
        with np.load(self._file(place), allow_pickle=False) as stored:
            arrays = {name: stored[f"arr_{index}"] for index, name in enumerate(names)}
        self._file(place).unlink()
        return replace(reply, arrays=arrays)

    def close(self) -> None:
        """Removes what was never taken."""
        if "_folder" in vars(self):
            self._folder.cleanup()

    @cached_property
    def _folder(self) -> "TemporaryDirectory[str]":
        return TemporaryDirectory(prefix="medtl-replies-")

    def _file(self, place: int) -> Path:
        return Path(self._folder.name) / f"{place}.npz"
