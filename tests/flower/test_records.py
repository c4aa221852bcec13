import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from medtl_core.federation.hospitals import ArraySpec
from medtl_core.flower import compat
from medtl_core.flower.records import (
    Expectation,
    Joined,
    RefusedError,
    decode_request,
    encode,
    encode_request,
    validate,
    validate_join,
    wire_bytes,
)  # fmt: skip
from medtl_core.values import PrivacyEvent, Released, Update

EXPECT = Expectation("a", 30, "agreed", {"x": ArraySpec((2, 3))}, node=1000, run=1)


@pytest.fixture(autouse=True)
def identity() -> None:
    compat.take_identity(1, 1)


def question() -> Message:
    return compat.stamp(Message(RecordDict(), 1000, "train.fit"), "m1")


def good(value: np.ndarray | None = None, **metrics: float) -> RecordDict:
    value = np.arange(6.0).reshape(2, 3) if value is None else value
    return encode(Released(Update({"x": value}), metrics=metrics), agreement="agreed", site="a", weight=30)


def answer(content: RecordDict) -> Message:
    return Message(content, reply_to=question())


def lying(shape: tuple[int, ...], header_shape: tuple[int, ...], dtype: str = "<f8", body: int = 48) -> RecordDict:
    """A record whose .npy header claims what its bytes do not hold."""
    head = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {header_shape}, }}".encode()
    head += b" " * (-(len(head) + 11) % 64) + b"\n"
    data = b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head + b"\0" * body
    return RecordDict({**good(), "arrays": ArrayRecord({"x": Array("float64", shape, "numpy.ndarray", data)})})


def changed(content: RecordDict | None = None, **about: object) -> RecordDict:
    content = content or good()
    return RecordDict({**content, "about": ConfigRecord({**content["about"], **about})})


def without(record: str) -> RecordDict:
    return RecordDict({name: value for name, value in good().items() if name != record})


def arrays(**named: np.ndarray) -> RecordDict:
    return RecordDict({**good(), "arrays": ArrayRecord({name: Array(value) for name, value in named.items()})})


X = np.zeros((2, 3))
HOSTILE = {
    "transposed": ("shape", arrays(x=X.T.copy())),
    "one row that would broadcast": ("shape", arrays(x=X[:1])),
    "scalar that would broadcast": ("shape", arrays(x=np.zeros(()))),
    "empty": ("shape", arrays(x=np.zeros((0, 3)))),
    "float32 for float64": ("dtype", arrays(x=X.astype(np.float32))),
    "float16": ("dtype", arrays(x=X.astype(np.float16))),
    "text": ("dtype", arrays(x=np.full((2, 3), "a"))),
    "NaN": ("not-finite", arrays(x=np.where(X == 0, np.nan, X))),
    "Inf": ("not-finite", arrays(x=X + np.inf)),
    "another name": ("unknown-array", arrays(y=X)),
    "one array more": ("unknown-array", arrays(x=X, y=X)),
    "no array": ("missing-array", arrays()),
    "header of a petabyte": ("header", lying((2, 3), (10**15,))),
    "header and declaration of a petabyte": ("shape", lying((10**15,), (10**15,))),
    "header longer than the bytes": ("header", lying((2, 3), (2, 3), body=40)),
    "header shorter than the bytes": ("header", lying((2, 3), (2, 3), body=56)),
    "header of another shape": ("header", lying((2, 3), (3, 2))),
    "header of another dtype": ("header", lying((2, 3), (2, 3), "<i8")),
    "header of pickled objects": ("header", lying((2, 3), (2, 3), "|O")),
    "header in the other byte order": ("header", lying((2, 3), (2, 3), ">f8")),
    "negative weight": ("weight", changed(weight=-30)),
    "changed weight": ("weight", changed(weight=31)),
    "weight of a trillion": ("weight", changed(weight=10**12)),
    "weight NaN": ("weight", changed(weight=float("nan"))),
    "weight as a list": ("weight", changed(weight=[30])),
    "foreign agreement": ("agreement", changed(agreement="another")),
    "another protocol": ("protocol", changed(protocol=99)),
    "another site": ("unknown-site", changed(site="b")),
    "metric NaN": ("not-finite", good(loss=float("nan"))),
    "metric beyond all measure": ("not-finite", good(loss=1e300)),
    "a hundred metrics": ("malformed", good(**{f"m{number}": 0.0 for number in range(100)})),
    "beyond all measure": ("range", arrays(x=X + 1e300)),
    "no arrays record": ("malformed", without("arrays")),
    "a record more": ("malformed", RecordDict({**good(), "more": ConfigRecord()})),
    "nothing": ("malformed", RecordDict()),
    "records exchanged": ("malformed", RecordDict({"arrays": ConfigRecord(), "metrics": MetricRecord()})),
    "metric list": ("malformed", RecordDict({**good(), "metrics": MetricRecord({"loss": [1.0, 2.0]})})),
}  # fmt: skip


def test_a_good_reply_passes_whole() -> None:
    reply = validate(answer(good(loss=0.5)), EXPECT)
    assert (reply.site, reply.weight, reply.metrics) == ("a", 30, {"loss": 0.5})
    np.testing.assert_array_equal(reply.arrays["x"], np.arange(6.0).reshape(2, 3))
    reply.arrays["x"] += 1.0  # its owner may write


@pytest.mark.parametrize("wire", [False, True])
@pytest.mark.parametrize("kind", HOSTILE)
def test_every_hostile_reply_is_refused_by_name(kind: str, wire: bool) -> None:
    code, content = HOSTILE[kind]
    message = answer(content)
    with pytest.raises(RefusedError) as refused:
        validate(compat.round_trip(message) if wire else message, EXPECT)
    assert refused.value.code == code
    assert len(str(refused.value)) < 250


@given(data=st.binary(max_size=300), cut=st.integers(0, 200))
@settings(max_examples=50, deadline=None)
def test_any_bytes_are_refused_or_right(data: bytes, cut: int) -> None:
    content = good()
    honest = content["arrays"]["x"].data
    content["arrays"] = ArrayRecord({"x": Array("float64", (2, 3), "numpy.ndarray", honest[:cut] + data)})
    try:
        reply = validate(answer(content), EXPECT)
    except RefusedError as refused:
        assert refused.code in {"header", "not-finite", "range"}
    else:
        assert reply.arrays["x"].shape == (2, 3)


@pytest.mark.parametrize("dtype", ["float64", "float32", "int64"])
@given(data=st.data())
@settings(max_examples=20, deadline=None)
def test_arrays_survive_request_and_wire_exactly(dtype: str, data: st.DataObject) -> None:
    value = data.draw(hnp.arrays(dtype, hnp.array_shapes(min_dims=0, min_side=0, max_dims=3)))
    config = {"round": 3, "rate": 0.1, "name": "ä", "last": True}
    message = Message(encode_request({"x": value, "f": np.asarray(value, order="F")}, config), 1000, "train.fit")
    for arrived in (message, compat.round_trip(compat.stamp(message, "m1"))):
        got, got_config = decode_request(arrived)
        assert got_config == config
        for one in got.values():
            assert (one.dtype, one.shape, one.tobytes()) == (value.dtype, value.shape, value.tobytes())
            assert one.flags.writeable


@pytest.mark.parametrize("content", [RecordDict(), lying((2, 3), (10**15,)), lying((-2, -3), (-2, -3))])
def test_a_request_that_lies_is_refused(content: RecordDict) -> None:
    records = {"arrays": content["arrays"], "config": ConfigRecord()} if content else {}
    with pytest.raises(RefusedError):
        decode_request(Message(RecordDict(records), 1000, "train.fit"))


def test_only_released_values_are_encoded() -> None:
    with pytest.raises(TypeError, match="only a Released value"):
        encode(Update({"x": X}), agreement="agreed", site="a", weight=30)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="float16"):
        good(X.astype(np.float16))


def test_the_privacy_event_travels_along() -> None:
    spent = Released(Update({}), PrivacyEvent("gaussian", 3.0, 1e-5))
    about = encode(spent, agreement="agreed", site="a", weight=30)["about"]
    assert (about["mechanism"], about["epsilon"], about["delta"]) == ("gaussian", 3.0, 1e-5)
    assert good()["about"]["epsilon"] == float("inf")


def joining(**about: object) -> Message:
    return answer(changed(encode(Released(Update({})), agreement="agreed", site="a", weight=30), **about))


@pytest.mark.parametrize(
    ("key", "code", "values"),
    [
        ("site", "name", ["", "a/b", "a\nb", "a" * 81, 7, "..", "Su\u0308d"]),
        ("weight", "weight", [0, -1, 1.0, True, 10**10]),
        ("agreement", "agreement", ["another"]),
        ("protocol", "protocol", [99]),
    ],
)
def test_joining_needs_a_name_and_a_weight(key: str, code: str, values: list[object]) -> None:
    assert validate_join(joining(), "agreed") == Joined("a", 30)
    for value in values:
        with pytest.raises(RefusedError) as refused:
            validate_join(joining(**{key: value}), "agreed")
        assert refused.value.code == code
    with pytest.raises(RefusedError, match="no array"):
        validate_join(answer(good()), "agreed")


def test_wire_bytes_are_the_bytes_of_the_payload() -> None:
    from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects

    value = np.zeros((100, 100))
    size = wire_bytes(good(value))
    message = compat.stamp(answer(good(value)), "m1")
    real = sum(len(part.deflate()) for part in get_all_nested_objects(message).values())
    assert value.nbytes < size < real < size + 1500
