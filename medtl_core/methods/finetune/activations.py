"""What the trained part of a backbone reads: the frozen prefix's activations, each image and view run once a process.

They are kept in memory as float32 (whole networks read pixels: uint8), the least recently used dropped beyond a
limit, under the content of the image, the fingerprint of the features and the place of the cut. They are never
written to disk: an early layer's activations show the image.
"""

import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING, final

import numpy as np
from numpy.typing import NDArray

from medtl_core.data.images import content_key, decode
from medtl_core.data.views import square, stacked
from medtl_core.features.dataset import Material
from medtl_core.features.extract import images_of
from medtl_core.methods.finetune.trainable_suffix import Prefix

if TYPE_CHECKING:
    from torch import Tensor

    from medtl_core.methods.finetune.split_backbone import Body

    #: The suffix's input [views, ...], maps with their channels last, and the shallow taps [views, ds].
    Entry = tuple[Tensor, Tensor]

#: Positions, of cases or of views.
Rows = Sequence[int] | NDArray[np.int64]

#: Bytes of activations a process keeps.
LIMIT = 1 << 30


@final
class Memo:
    """Entries by key, the least recently used dropped beyond `limit` bytes. Threads may share one."""

    def __init__(self, limit: int = LIMIT) -> None:
        self.limit, self.bytes = limit, 0
        self._entries: OrderedDict[str, Entry] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: str) -> "Entry | None":
        """Returns an entry and marks it as used."""
        with self._lock:
            if key in self._entries:
                self._entries.move_to_end(key)
            return self._entries.get(key)

    def put(self, key: str, entry: "Entry") -> None:
        """Keeps an entry, and drops others where it needs their room; one larger than the limit is not kept."""
        size = _size(entry)
        with self._lock:
            if key in self._entries or size > self.limit:
                return
            self._entries[key] = entry
            self.bytes += size
            while self.bytes > self.limit:
                self.bytes -= _size(self._entries.popitem(last=False)[1])

    def clear(self) -> None:
        """Drops everything."""
        with self._lock:
            self._entries.clear()
            self.bytes = 0


#: Of this process.
MEMO = Memo()


@final
class Inputs:
    """What a body's suffix reads of some cases, by row and view.

    Raises:
        DataError: on construction, the cases hold no images; later, an image cannot be read.
    """

    def __init__(self, body: "Body", material: Material, memo: Memo = MEMO) -> None:
        self._body, self._memo = body, memo
        self._images = images_of(material.examples)
        place = f"{body.spec.fingerprint}/{body.units[0] if body.units else 'head'}"
        self._keys = [f"{place}/{content_key(image)}" for image in self._images]
        self._prefix: Prefix | None = None

    def __len__(self) -> int:
        return len(self._keys)

    def batch(self, rows: Rows, views: Rows | None = None) -> tuple["Tensor", "Tensor"]:
        """Returns the suffix's input and the shallow taps, ready for a `Part`.

        Args:
            rows: of the cases.
            views: one view for each row; None = every view of each, so that a row becomes as many as there are views.
        """
        import torch

        entries = [self._entry(row) for row in rows]
        if views is None:
            read, shallow = (torch.cat(parts) for parts in zip(*entries, strict=True))
        else:
            chosen = [(read[view], wide[view]) for (read, wide), view in zip(entries, views, strict=True)]
            read, shallow = (torch.stack(parts) for parts in zip(*chosen, strict=True))
        is_map = read.ndim == 4 and read.dtype != torch.uint8
        return read.permute(0, 3, 1, 2) if is_map else read, shallow

    def _entry(self, row: int) -> "Entry":
        entry = self._memo.get(self._keys[row])
        if entry is None:
            entry = self._computed(self._images[row])
            self._memo.put(self._keys[row], entry)
        return entry

    def _computed(self, image: "str | np.ndarray") -> "Entry":
        import torch

        spec = self._body.spec
        pixels = torch.from_numpy(stacked(square(decode(image), spec.size), spec.views))
        if self._body.units == ("",):
            return pixels, torch.zeros(len(pixels), 0)
        self._prefix = self._prefix or Prefix(self._body)
        read, shallow = self._prefix(pixels)
        # maps lie in memory as the convolutions read them fastest, and so that a view is one piece
        return (read.permute(0, 2, 3, 1) if read.ndim == 4 else read).contiguous(), shallow.contiguous()


def _size(entry: "Entry") -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in entry)
