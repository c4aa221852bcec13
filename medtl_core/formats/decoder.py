"""A hospital's side of `child`: the processes that decode its files, started when the first one is read."""

import atexit
import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from threading import BoundedSemaphore, Lock
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from medtl_core.errors import DataError
from medtl_core.slides.files import is_slide

#: What one case may take.
SECONDS = 60
MEMORY = 3 << 30
#: Children that decode side by side, for as many threads that ask.
_MOST = min(4, os.cpu_count() or 1)
#: Bytes of pictures that may be under way from a child.
_PIPE = 1 << 20
_CHILD = "medtl_core.formats.child"

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


@final
class Decoder:
    """Owns a few children, each used again for file after file; another one is started when one has died.

    Guarantee:
        The child's own errors go nowhere: they may quote a header. What it replies is checked for shape, not trusted.
    """

    def __init__(self, seconds: int = SECONDS, memory: int = MEMORY) -> None:
        self._seconds, self._memory = seconds, memory
        self._idle: list[subprocess.Popen[bytes]] = []
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

    def _free(self) -> "subprocess.Popen[bytes]":
        with self._lock:
            while self._idle:
                child = self._idle.pop()
                if child.poll() is None:
                    return child
                _end(child)  # of something else than a file
        return self._started()

    def _started(self) -> "subprocess.Popen[bytes]":
        places = os.pathsep.join(place or str(Path.cwd()) for place in sys.path)
        return subprocess.Popen(
            [sys.executable, "-P", "-m", _CHILD, str(self._seconds), str(self._memory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": places, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
            pipesize=_PIPE,
        )

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


def _asked(child: "subprocess.Popen[bytes]", request: bytes) -> Reply:
    requests, replies = child.stdin, child.stdout
    if requests is None or replies is None:
        raise EOFError
    requests.write(request)
    requests.flush()
    line = replies.readline()
    if not line:
        raise EOFError
    reply, pictures = json.loads(line), []
    for height, width, channels in reply.pop("shapes"):
        picture = np.empty((height, width, channels), np.uint8)
        view = picture.data.cast("B")
        while view:
            count = replies.readinto(view)  # type: ignore[attr-defined]
            if not count:
                raise EOFError
            view = view[count:]
        pictures.append(picture)
    return reply, pictures


def _end(child: "subprocess.Popen[bytes]") -> None:
    for pipe in (child.stdin, child.stdout):
        with suppress(OSError):
            if pipe is not None:
                pipe.close()
    try:
        child.wait(timeout=1)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
