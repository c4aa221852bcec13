"""Which images cannot be used, found by decoding all of them."""

from collections.abc import Iterable, Sequence

from medtl_core.data.faults import Faults
from medtl_core.data.images import images_of, read_or_refuse
from medtl_core.errors import DataError
from medtl_core.formats.decoder import side_by_side
from medtl_core.values import Array, Examples


def check_images(examples: Examples, rows: Iterable[int], faults: Faults) -> None:
    """Decodes the images of these rows, a file once; those that cannot be used are at fault."""
    images = images_of(examples)
    if images is None:
        return
    rows = [row for row in rows if len(images[row])]  # "" is a case without an image
    cases = [images[row] for row in rows]
    keys = cases if "path" in examples.columns else rows
    once = dict(zip(keys, cases, strict=True))
    causes = dict(zip(once, side_by_side(_causes, [*once.values()]), strict=True))
    for row, key in zip(rows, keys, strict=True):
        if causes[key]:
            faults.case(row, causes[key], "export it anew, or leave it out")


def _causes(images: Sequence[str | Array]) -> list[str]:
    """What is wrong with each image; "" = nothing."""
    return [str(found) if isinstance(found, DataError) else "" for found in read_or_refuse(images)]
