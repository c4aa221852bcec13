"""A hospital's side of `child`: the processes that decode its files, started when the first one is read."""

import atexit
import json
import mmap
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from threading import BoundedSemaphore, Lock
from typing import Any, TypeVar, final

import numpy as np
from numpy.typing import NDArray

from medtl_core.errors import DataError
from medtl_core.slides.files import is_slide

#: What one case may take.
SECONDS = 60
MEMORY = 3 << 30
#: Children that decode side by side, for as many threads that ask.
_MOST = min(4, os.cpu_count() or 1)
#: Bytes of pictures that lie in memory shared with a child, and of those that may be under way from it beside.
_ROOM, _PIPE = 1 << 24, 1 << 20
_CHILD = "medtl_core.formats.child"
#: Cases that wait for their turn at most.
_AHEAD = 256
_Case = TypeVar("_Case")
_Made = TypeVar("_Made")

Reply = tuple[dict[str, Any], list[NDArray[np.uint8]]]


def kind_of(path: Path) -> str:
    """Returns "volumes" for a NIfTI file, "slides" for a slide, "dicom" for a DICOM file or a folder, "" for others.

    It looks at names and marks only.
    """
    name = path.name.lower()
    if name.endswith((".nii", ".nii.gz")) and path.is_file():
        return "volumes"
    if path.is_dir() or (name.endswith((".dcm", ".dicom", ".ima")) and path.is_file()):
        return "dicom"
    if is_slide(path):
        return "slides"
    try:
        return "dicom" if path.is_file() and _starts(path)[128:] == b"DICM" else ""
    except OSError:
        return ""


def _starts(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(132)


class Child(subprocess.Popen[bytes]):
    """A process that decodes, and the memory that is shared with it."""

    room: mmap.mmap | bytes = b""


@final
class Decoder:
    """Owns a few children, each used again for file after file; another one is started when one has died.

    Guarantee:
        The child's own errors go nowhere: they may quote a header. What it replies is checked for shape, not trusted.
    """

    def __init__(self, seconds: int = SECONDS, memory: int = MEMORY) -> None:
        self._seconds, self._memory = seconds, memory
        self._idle: list[Child] = []
        self.begin()
        atexit.register(self.close)

    def begin(self) -> None:
        """Owns no child from now on: at first, and in a forked process, for its parent ends those that there are."""
        self._parents, self._idle = self._idle, []
        self._lock, self._places = Lock(), BoundedSemaphore(_MOST)
        self._owner = os.getpid()

    def ask(self, job: str, path: Path) -> Reply:
        """Returns what a child says of a file or folder, and its pictures, uint8 [h, w, 1 or 3].

        Args:
            job: "pictures" or "ids"; see `child`.
            path: of the file or folder.

        Raises:
            DataError: the case cannot be used, or the child died of it.
        """
        with self._places:
            child = self._free()
            try:
                reply, pictures = _asked(child, json.dumps({"job": job, "path": str(path)}).encode() + b"\n")
            except BaseException as error:
                _end(child)
                if not isinstance(error, OSError | ValueError | EOFError):
                    raise
                raise DataError(self._cause(child.returncode)) from error
            with self._lock:
                self._idle.append(child)
        if "fault" in reply:
            raise DataError(reply["fault"])
        return reply, pictures

    def close(self) -> None:
        """Ends the children that wait, if they are this process'."""
        if self._owner == os.getpid():
            with self._lock:
                while self._idle:
                    _end(self._idle.pop())

    def _free(self) -> Child:
        with self._lock:
            while self._idle:
                child = self._idle.pop()
                if child.poll() is None:
                    return child
                _end(child)  # of something else than a file
        return self._started()

    def _started(self) -> Child:
        places = os.pathsep.join(place or str(Path.cwd()) for place in sys.path)
        room = os.memfd_create("pictures") if hasattr(os, "memfd_create") else -1
        shared = [room] if room >= 0 else []
        try:
            for file in shared:
                os.truncate(file, _ROOM)
            child = Child(
                [sys.executable, "-P", "-m", _CHILD, str(self._seconds), str(self._memory), str(room)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": places, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
                pipesize=_PIPE,
                pass_fds=shared,
            )
            child.room = mmap.mmap(room, 0, prot=mmap.PROT_READ) if shared else b""
        finally:
            for file in shared:
                os.close(file)
        return child

    def _cause(self, code: int | None) -> str:
        """What a child died of, for a person."""
        if code == -signal.SIGALRM:
            return f"takes more than {self._seconds} s to decode"
        if code is not None and code > 0:
            return f"the process that decodes files cannot run here (exit code {code}); install medtl again"
        return f"breaks the decoder: it is damaged, or takes more than {self._memory >> 30} GiB"


#: Of this process; a forked one begins anew.
_DECODER = Decoder()
os.register_at_fork(after_in_child=_DECODER.begin)


def decoder() -> Decoder:
    """Returns this process' decoder, which starts a child when it is first asked."""
    return _DECODER


def side_by_side(work: Callable[[_Case], _Made], cases: Sequence[_Case]) -> Iterator[_Made]:
    """Yields what `work` makes of each case, in order, some at a time: it waits for children, or for Pillow."""
    with ThreadPoolExecutor(_MOST, thread_name_prefix="medtl-read") as pool:
        for first in range(0, len(cases), _AHEAD):
            yield from pool.map(work, cases[first : first + _AHEAD])


def _asked(child: Child, request: bytes) -> Reply:
    requests, replies = child.stdin, child.stdout
    if requests is None or replies is None:
        raise EOFError
    requests.write(request)
    requests.flush()
    line = replies.readline()
    if not line:
        raise EOFError
    reply, pictures, end = json.loads(line), [], 0
    for height, width, channels in reply.pop("shapes"):
        picture = np.empty((height, width, channels), np.uint8)
        view, end = picture.data.cast("B"), end + picture.size
        if end <= len(child.room):
            view[:], view = memoryview(child.room)[end - picture.size : end], view[:0]
        while view:
            count = replies.readinto(view)  # type: ignore[attr-defined]
            if not count:
                raise EOFError
            view = view[count:]
        pictures.append(picture)
    return reply, pictures


def _end(child: Child) -> None:
    for pipe in (child.stdin, child.stdout):
        with suppress(OSError):
            if pipe is not None:
                pipe.close()
    try:
        child.wait(timeout=1)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
