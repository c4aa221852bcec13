"""Files that hold one case each, such as a note or a signal: each is read, or at fault, by itself."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from medtl_core.data.faults import Faults
from medtl_core.errors import DataError


def read_each(count: int, read: Callable[[int], Any], faults: Faults, remedy: str) -> Mapping[int, Any]:
    """Returns by row what is read of a manifest's cases that are not at fault; a `DataError` is its row's fault."""
    found = {}
    for row in faults.usable(count).tolist():
        try:
            found[row] = read(row)
        except DataError as error:
            faults.case(row, str(error), remedy)
    return found


def read_new(
    place: Path, suffixes: Sequence[str], read: Callable[[Path], Any], blank: Any
) -> Iterator[tuple[str, Any, str]]:
    """Yields name, content and fault ("" = none) of a file that a person names, or of each in a folder and below.

    Raises:
        DataError: the place is not there, or is a folder without such a file.
    """
    files = [file for file in sorted(place.rglob("*")) if file.suffix.lower() in suffixes]
    files = files if place.is_dir() else [place]
    if not files or not place.exists():
        raise DataError(f"no case in {place}; name files that end in {', '.join(suffixes)}")
    for file in files:
        try:
            yield str(file), read(file), ""
        except DataError as error:
            yield str(file), blank, str(error)
