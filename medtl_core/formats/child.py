"""The process in which files from outside are decoded: it has little time and memory, and may write nothing.

    python -m medtl_core.formats.child SECONDS BYTES ROOM    # requests on stdin, replies on stdout; see `decoder`

A file that is built to break a decoder breaks this process, and the hospital goes on without that case.
"""

import json
import mmap
import resource
import signal
import sys
import warnings
from collections.abc import Callable, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from medtl_core.errors import MedtlError
from medtl_core.formats.decoder import kind_of
from medtl_core.formats.dicom_identity import check_identity
from medtl_core.formats.dicom_pixels import check_image, read_dataset
from medtl_core.formats.dicom_series import pictures_of_dicom
from medtl_core.formats.nifti import pictures_of_nifti
from medtl_core.slides.reading import pictures_of_slide
from medtl_core.values import Array

#: Ids of a header that cases are found by, or counted by.
IDS = ("SOPInstanceUID", "AccessionNumber", "SeriesInstanceUID", "PatientID", "Modality")
#: What a result about a picture shares with it.
SHARED = (
    *IDS, "SOPClassUID", "StudyInstanceUID", "PatientName", "PatientBirthDate", "PatientSex", "StudyID", "StudyDate",
    "StudyTime", "ReferringPhysicianName",
)  # fmt: skip


def main() -> None:
    """Answers requests until there are no more.

    The words of the command are seconds a request, bytes of memory, and the number of a file that is shared
    memory (-1 = none).
    """
    seconds, memory = int(sys.argv[1]), int(sys.argv[2])
    limits = {resource.RLIMIT_AS: memory, resource.RLIMIT_FSIZE: 0, resource.RLIMIT_CORE: 0, resource.RLIMIT_NOFILE: 64}
    for kind, limit in limits.items():
        hard = resource.getrlimit(kind)[1]
        least = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
        resource.setrlimit(kind, (least, least))
    warnings.simplefilter("ignore")  # they quote the header
    signal.signal(signal.SIGALRM, signal.SIG_DFL)  # kills, wherever the decoder hangs
    room = mmap.mmap(int(sys.argv[3]), 0) if int(sys.argv[3]) >= 0 else b""
    answer(sys.stdin.buffer, sys.stdout.buffer, seconds, room)


def answer(requests: BinaryIO, replies: BinaryIO, seconds: int, room: mmap.mmap | bytes = b"") -> None:
    """Answers lines of JSON {"job": name, "path": path, "room": [start, stop]}, each by a line that announces pictures
    by their shapes.

    The pictures lie in that part of `room` one behind the other; the bytes of those that do not fit follow the line.
    """
    shared = np.frombuffer(room, np.uint8)
    for line in requests:
        request = json.loads(line)
        signal.setitimer(signal.ITIMER_REAL, seconds)
        reply, pictures = _done(_JOBS[request["job"]], Path(request["path"]))
        signal.setitimer(signal.ITIMER_REAL, 0)
        place, ends = shared[slice(*request["room"])], [*accumulate(picture.size for picture in pictures)]
        for picture, end in zip(pictures, ends, strict=True):
            if end <= len(place):
                place[end - picture.size : end].reshape(picture.shape)[...] = picture
        shapes = [picture.shape for picture in pictures]
        replies.write(json.dumps({**reply, "shapes": shapes}).encode() + b"\n")
        for picture, end in zip(pictures, ends, strict=True):
            if end > len(place):
                replies.write(np.ascontiguousarray(picture).data)
        replies.flush()


def pictures(path: Path) -> tuple[dict[str, Any], Sequence[Array]]:
    """Returns nothing to say, and the pictures of a case, each uint8 [h, w, 1 or 3].

    Raises:
        DataError: see `pictures_of_dicom`, `pictures_of_nifti` and `pictures_of_slide`.
    """
    readers = {"volumes": pictures_of_nifti, "slides": pictures_of_slide}
    return {}, readers.get(kind_of(path), pictures_of_dicom)(path)


def header(path: Path, names: Sequence[str] = SHARED) -> tuple[dict[str, Any], Sequence[Array]]:
    """Returns the values of a DICOM file's header, "" where one is missing, and no picture.

    Raises:
        DataError: it is no DICOM picture, or identifies a patient in a way that the hospital does not permit.
    """
    dataset = read_dataset(path, pixels=False)
    check_image(dataset)
    check_identity(dataset, path.parent)
    return {name: str(dataset.get(name) or "").strip() for name in names}, ()


_JOBS: dict[str, Callable[[Path], tuple[dict[str, Any], Sequence[Array]]]] = {
    "pictures": pictures,
    "ids": lambda path: header(path, IDS),
    "header": header,
}


def _done(job: Callable[[Path], tuple[dict[str, Any], Sequence[Array]]], path: Path) -> tuple[dict[str, Any], Any]:
    try:
        return job(path)
    except MedtlError as error:
        return {"fault": str(error)}, ()
    except ModuleNotFoundError:
        return {
            "fault": "medtl is installed without the libraries for it: pip install 'medtl[dicom,volumes,pathology]'"
        }, ()
    except MemoryError:
        return {"fault": "takes more memory to decode than it may"}, ()
    except Exception:  # whatever a damaged file makes a decoder raise; its text may quote the file
        return {"fault": "damaged: it cannot be decoded"}, ()


if __name__ == "__main__":
    main()
