"""A message's records travel as one and arrive as they were; what is long, or cannot be read, stays as it is."""

import numpy as np
import pytest
from flwr.app import ConfigRecord, Error, Message, RecordDict
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects
from hypothesis import given
from hypothesis import strategies as some

from medtl_core.errors import ReplyError
from medtl_core.federation.tasks import Arrays
from medtl_core.flower import compat
from medtl_core.flower.node.single_record import SINGLE, is_joined, joined, parted
from medtl_core.flower.records import decode_request, encode_request

VALUES = some.one_of(some.text(), some.integers(-(2**63), 2**63 - 1), some.floats(allow_nan=False), some.booleans())


def message(arrays: Arrays, config: dict[str, str | int | float | bool]) -> Message:
    compat.take_identity(7, 1)
    return compat.stamp(Message(encode_request(arrays, config), 1000, "train.x", group_id="protocol"), "m1")


@given(some.dictionaries(some.text(min_size=1), VALUES, max_size=5), some.integers(0, 4))
def test_what_was_joined_is_parted_to_the_same_bytes(config: dict[str, str | int | float | bool], count: int) -> None:
    arrays = {f"a{number}": np.arange(number + 1.0).reshape(1, -1) for number in range(count)}
    sent = message(arrays, config)
    whole = joined(sent)
    assert is_joined(whole) and not is_joined(sent)
    assert len(get_all_nested_objects(whole)) == 3  # the message, its content, and one record
    arrived = parted(compat.round_trip(whole))
    assert arrived.content.object_id == sent.content.object_id
    assert vars(arrived.metadata) == vars(sent.metadata)
    found, values = decode_request(arrived)
    assert values == config and {name: array.tolist() for name, array in found.items()} == {
        name: array.tolist() for name, array in arrays.items()
    }


def test_what_is_long_or_an_error_or_joined_by_nobody_stays() -> None:
    long = message({"a": np.zeros(200_000)}, {})
    error = Message(Error(2, "raised"), reply_to=long)
    plain = message({"a": np.zeros(2)}, {})
    assert joined(long) is long and joined(error) is error
    assert parted(plain) is plain and parted(error) is error


@pytest.mark.parametrize("record", [{SINGLE: b"\xff\xff"}, {SINGLE: "text"}, {SINGLE: 3}, {"other": b""}, {}])
def test_what_cannot_be_read_is_refused_as_no_request(record: dict[str, bytes | str | int]) -> None:
    compat.take_identity(7, 1)
    broken = Message(RecordDict({SINGLE: ConfigRecord(record)}), 1000, "train.x")
    assert parted(broken) is broken
    with pytest.raises(ReplyError):
        decode_request(parted(broken))
