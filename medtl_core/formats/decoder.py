"""A hospital's side of `child`: the processes that decode its files, started when the first one is read."""

import atexit
import json
import mmap
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from itertools import chain, compress
from pathlib import Path
from threading import BoundedSemaphore, Lock
from typing import IO, Any, TypeVar, final

import numpy as np
from numpy.typing import NDArray

from medtl_core.errors import DataError
from medtl_core.slides.files import is_slide

#: What one case may take.
SECONDS = 60
MEMORY = 3 << 30
#: Children that decode side by side, for as many threads that ask.
_MOST = min(4, os.cpu_count() or 1)
#: Bytes of a case's pictures that lie in memory shared with a child, and of those that may be under way from it beside.
_ROOM, _PIPE = 1 << 24, 1 << 20
#: Cases that a child is asked for at a time: it works on one while another's pictures are taken from it.
_ASKED = 2
_CHILD = "medtl_core.formats.child"
#: Cases that one reader takes at a time at most, and groups of them that wait for their turn.
_GROUP, _AHEAD = 16, 16
_Case = TypeVar("_Case")
_Made = TypeVar("_Made")

Pictures = Sequence[NDArray[np.uint8]]
Reply = tuple[dict[str, Any], Pictures]


def kind_of(path: Path) -> str:
    """Returns "volumes" for a NIfTI file, "slides" for a slide, "dicom" for a DICOM file or a folder, "" for others.

    It looks at names and marks only.
    """
    name = path.name.lower()
    if name.endswith((".nii", ".nii.gz")) and path.is_file():
        return "volumes"
    if (name.endswith((".dcm", ".dicom", ".ima")) and path.is_file()) or path.is_dir():
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
    """A process that decodes, and memory shared with it, in whose parts the cases' pictures lie by turns."""

    room: mmap.mmap | bytes = b""
    asked = answered = 0

    def request(self, job: str, path: Path) -> None:
        """Sends a request; where there is nobody to take it, the answer will be missing."""
        start = self.asked % _ASKED * _ROOM
        self.asked += 1
        line = json.dumps({"job": job, "path": str(path), "room": [start, start + _ROOM]}).encode() + b"\n"
        with suppress(BrokenPipeError):
            if self.stdin is not None:
                self.stdin.write(line)
                self.stdin.flush()

    def answer(self) -> Reply:
        """Returns the answer to the first request that has none yet.

        Raises:
            EOFError, OSError, ValueError: there is none, or it is no answer.
        """
        replies, end = self.stdout, 0
        line = replies.readline() if replies else b""
        if not line or not replies:
            raise EOFError
        start = self.answered % _ASKED * _ROOM
        place, pictures = memoryview(self.room)[start : start + _ROOM], []
        reply = json.loads(line)
        for shape in reply.pop("shapes"):
            pictures.append(_picture(shape, place[end:], replies))
            end += pictures[-1].size
        self.answered += 1
        return reply, pictures


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
        (found,) = self.ask_each(job, [path])
        if isinstance(found, DataError):
            raise found
        return found

    def ask_each(self, job: str, paths: Sequence[Path]) -> Iterator[Reply | DataError]:
        """Yields, in order, what `ask` returns of each file or folder or the error that it raises.

        Requests go ahead of answers, to as many children as are free: they decode while pictures are taken from them
        and looked at. One that dies costs the case that it was at; those that wait behind it are asked of another.
        Until the last case children are held: who is at a case must ask for no other in another way.
        """
        if not paths:
            return
        with self._held(len(paths)) as children:
            count, sent = len(children), 0
            for place in range(len(paths)):
                ahead = min(place + count * _ASKED, len(paths))
                for other in range(sent, ahead):
                    children[other % count].request(job, paths[other])
                child, sent = children[place % count], ahead
                try:
                    reply, pictures = child.answer()
                except (OSError, ValueError, EOFError) as error:
                    _end(child)
                    fault = DataError(self._cause(child.returncode))
                    fault.__cause__ = error
                    children[place % count] = child = self._free()
                    for behind in range(place + count, sent, count):
                        child.request(job, paths[behind])
                    yield fault
                else:
                    yield DataError(reply["fault"]) if "fault" in reply else (reply, pictures)

    @contextmanager
    def _held(self, most: int) -> Iterator[list[Child]]:
        """Children that are free, no more than so many: one, for which this waits, and others that nobody has."""
        children: list[Child] = []
        held = int(self._places.acquire())
        try:
            while held < most and self._places.acquire(blocking=False):
                held += 1
            while len(children) < held:
                children.append(self._free())
            yield children
        finally:
            for child in children:
                if child.asked > child.answered:  # nobody waits for it any more
                    _end(child)
                else:
                    with self._lock:
                        self._idle.append(child)
            for _ in range(held):
                self._places.release()

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
                os.truncate(file, _ASKED * _ROOM)
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


def side_by_side(work: Callable[[Sequence[_Case]], Iterable[_Made]], cases: Sequence[_Case]) -> Iterator[_Made]:
    """Yields what `work` makes of cases, in order, in groups some of which are worked on at a time: they wait for
    children, or for Pillow.
    """
    size = min(max(len(cases) // (4 * _MOST), 1), _GROUP)
    groups = [cases[first : first + size] for first in range(0, len(cases), size)]
    with ThreadPoolExecutor(_MOST, thread_name_prefix="medtl-read") as pool:
        for first in range(0, len(groups), _AHEAD):
            for made in pool.map(lambda group: [*work(group)], groups[first : first + _AHEAD]):
                yield from made


def pictures_of_each(
    cases: Sequence[Any], read: Callable[[Any], Pictures], usual: Collection[str]
) -> Iterator[Pictures | DataError]:
    """Yields in order the pictures of cases, uint8 [h, w, 3], or why one cannot be used.

    Args:
        cases: files, folders or arrays; children are asked for scans ahead of their turn.
        read: returns the pictures of any other case, or of an array that a child made; or raises DataError.
        usual: endings of files that are no scans whatever they hold.
    """
    scans = [not isinstance(case, np.ndarray) and _is_scan(Path(case), usual) for case in cases]
    asked = decoder().ask_each("pictures", [Path(case) for case in compress(cases, scans)])
    for case, scan in zip(cases, scans, strict=True):
        try:
            found = next(asked) if scan else read(case)
        except DataError as error:
            found = error
        yield [*chain.from_iterable(map(read, found[1]))] if isinstance(found, tuple) else found


def _is_scan(path: Path, usual: Collection[str]) -> bool:
    try:
        return path.suffix.lower() not in usual and bool(kind_of(path))
    except (OSError, ValueError):  # text that can be no name of a file
        return False


def _picture(shape: Sequence[int], content: memoryview, replies: IO[bytes]) -> NDArray[np.uint8]:
    """A picture, from the bytes that lie in shared memory, or from the pipe where there are too few."""
    picture = np.empty(shape, np.uint8)
    view = picture.data.cast("B")
    if len(view) <= len(content):
        view[:], view = content[: len(view)], view[:0]
    while view:
        count = replies.readinto(view)  # type: ignore[attr-defined]
        if not count:
            raise EOFError
        view = view[count:]
    return picture


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
