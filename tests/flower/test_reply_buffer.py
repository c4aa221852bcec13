import numpy as np
import pytest

from medtl_core.federation.hospitals import Reply
from medtl_core.flower.exchange import ReplyBuffer

X = np.arange(6.0).reshape(2, 3)


@pytest.mark.parametrize("room", [1, 3])
def test_the_buffer_gives_back_what_it_got_from_memory_or_disk(room: int) -> None:
    buffer = ReplyBuffer(room)
    for place in (3, 1, 2):
        buffer.put(place, Reply(f"h{place}", {"a/b": X + place, "file": X[:0]}, {"loss": place}, place))
    buffer.put(4, None)
    assert [place in buffer for place in range(6)] == [False, True, True, True, True, False]
    for place in (1, 2, 3):
        back = buffer.pop(place)
        assert (back.site, back.metrics, back.weight) == (f"h{place}", {"loss": place}, place)
        assert back.arrays.keys() == {"a/b", "file"}
        np.testing.assert_array_equal(back.arrays["a/b"], X + place)
        assert back.arrays["file"].shape == (0, 3)
    assert buffer.pop(4) is None
    buffer.close()
