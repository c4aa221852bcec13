"""The reply buffer gives back what it was given, from memory or from disk."""

import numpy as np
import pytest

from medtl_core.federation.hospitals import Reply
from medtl_core.flower.reply_buffer import ReplyBuffer

X = np.arange(6.0).reshape(2, 3)


def test_the_buffer_gives_back_what_it_got() -> None:
    buffer = ReplyBuffer(room=1)
    replies = {
        place: Reply(f"h{place}", {"a/b": X + place, "file": X[:0]}, {"loss": place}, place) for place in (3, 1, 2)
    }
    for place, reply in replies.items():
        buffer.put(place, reply)
    buffer.put(4, None)
    assert [place in buffer for place in range(6)] == [False, True, True, True, True, False]
    for place, reply in sorted(replies.items()):
        back = buffer.pop(place)
        assert (back.site, back.metrics, back.weight) == (reply.site, reply.metrics, reply.weight)
        assert {name: array.tobytes() for name, array in back.arrays.items()} == {
            name: array.tobytes() for name, array in reply.arrays.items()
        }
    assert buffer.pop(4) is None
    with pytest.raises(KeyError):
        buffer.pop(1)
    buffer.close()
