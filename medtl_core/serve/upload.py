"""A file that was sent: read up to a limit into a folder of its own, which is gone after the answer."""

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from medtl_core.errors import DataError
from medtl_core.formats.decoder import kind_of

if TYPE_CHECKING:
    from starlette.requests import Request

#: Seconds a file may take to arrive.
SECONDS = 120
#: Where the mark of a NIfTI header stands, and what it says of a single file.
_NIFTI = slice(344, 348)
_GZIP = b"\x1f\x8b"


class TooLargeError(DataError):
    """More bytes than the service takes."""


@asynccontextmanager
async def received(request: "Request", limit: int, *, table: bool) -> AsyncIterator[Path]:
    """Yields the body of a request as a file in a new folder that nobody else may read; both are gone afterwards.

    What the sender calls the file is not asked: its first bytes say what it is.

    Args:
        request: not yet read.
        limit: bytes at most; a larger one is refused before it is read where it says its length.
        table: whether a CSV table is expected.

    Raises:
        TooLargeError: it is larger than the limit.
        DataError: it is empty, or takes too long.
    """
    large = TooLargeError(f"the file has more than {limit / 1e6:g} MB, which is the limit (--limit)")
    length = request.headers.get("content-length", "")
    if length.isdigit() and int(length) > limit:
        raise large
    with tempfile.TemporaryDirectory(prefix="medtl-serve-") as folder:  # mode 0700
        path, count = Path(folder, "case"), 0
        try:
            with path.open("xb") as file:
                async with asyncio.timeout(SECONDS):
                    async for chunk in request.stream():
                        count += len(chunk)
                        if count > limit:
                            raise large
                        file.write(chunk)
        except TimeoutError:
            raise DataError(f"the file did not arrive within {SECONDS} s; send it again") from None
        if not count:
            raise DataError("no file came; send one as the body of the request")
        yield path.rename(path.with_name("case.csv" if table else f"case{_ending(path)}"))


def _ending(path: Path) -> str:
    """What a file's name would end in; any picture's does for a picture, whose decoder goes by its content."""
    if kind_of(path):
        return ".dcm"
    with path.open("rb") as file:
        start = file.read(_NIFTI.stop)
    if start[_NIFTI] in (b"n+1\0", b"n+2\0"):
        return ".nii"
    return ".nii.gz" if start.startswith(_GZIP) else ".png"
