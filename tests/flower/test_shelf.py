"""The shelf gives back what it was given, from memory or from disk."""

import numpy as np
import pytest

from medtl_core.federation.hospitals import Reply
from medtl_core.flower.reply_buffer import Shelf

X = np.arange(6.0).reshape(2, 3)


def test_the_shelf_gives_back_what_it_got() -> None:
    shelf = Shelf(room=1)
    replies = {
        place: Reply(f"h{place}", {"a/b": X + place, "file": X[:0]}, {"loss": place}, place) for place in (3, 1, 2)
    }
    for place, reply in replies.items():
        shelf.put(place, reply)
    shelf.put(4, None)
    assert [place in shelf for place in range(6)] == [False, True, True, True, True, False]
    for place, reply in sorted(replies.items()):
        back = shelf.pop(place)
        assert (back.site, back.metrics, back.weight) == (reply.site, reply.metrics, reply.weight)
        assert {name: array.tobytes() for name, array in back.arrays.items()} == {
            name: array.tobytes() for name, array in reply.arrays.items()
        }
    assert shelf.pop(4) is None
    with pytest.raises(KeyError):
        shelf.pop(1)
    shelf.close()
