"""Values to Flower records and back; whatever comes from a hospital is checked here before anything uses it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO

import numpy as np
from flwr.app import Array as FlowerArray
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict

from medtl_core.errors import ConfigError, PrivacyError, ReplyError
from medtl_core.federation.hospitals import LARGEST, ArraySpec, Check, Reply, Value
from medtl_core.fingerprint import PROTOCOL
from medtl_core.flower.compat import filled
from medtl_core.flower.guard import failure
from medtl_core.privacy.registration import Claim, introduced
from medtl_core.privacy.witnesses import as_values, from_values
from medtl_core.values import Array, PrivacyEvent, Released, Witness, site_name

#: The dtypes that may travel.
DTYPES = ("float64", "float32", "int64")
#: More training cases than a hospital has, and more metrics than any task has.
_MOST_CASES, _MOST_METRICS = 10**9, 64
#: What is told of numbers that an array cannot hold.
_FAULTS = {
    "not-finite": "holds NaN or infinity",
    "range": "holds a number that no honest hospital could have sent",
    "step": "holds numbers that are no whole multiples of their unit",
}
_NAMES = {np.dtype(name): name for name in DTYPES}


class RefusedError(ReplyError):
    """A reply was refused; `code` is one word for the reason, distinct for each kind of fault."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


@dataclass(frozen=True)
class Expectation:
    """What a reply must be, exactly.

    Attributes:
        site, weight: who answers, as registered, with the number of cases it registered.
        agreement: hash of what both sides agreed on.
        arrays: every array by name, no more and no fewer.
        node, run: ids that Flower gave them; 0 = not checked.
        witness: whether it must say where the hospital's ledger stands.
        check: see Request.
    """

    site: str
    weight: int
    agreement: str
    arrays: Mapping[str, ArraySpec]
    node: int = 0
    run: int = 0
    witness: bool = False
    check: Check | None = None


def encode(released: Released, *, agreement: str, site: str, weight: int) -> RecordDict:
    """Returns the records of a reply: "arrays", "metrics" and "about"; TypeError for what is not `Released`."""
    if not isinstance(released, Released):
        raise TypeError(f"only a Released value may leave a hospital, not {type(released).__name__}")
    about = _about(agreement, site, int(weight), released.event).copy()
    about.update({} if released.witness is None else as_values(released.witness))
    metrics = filled(MetricRecord(), {str(name): float(value) for name, value in released.metrics.items()})
    return filled(RecordDict(), {"arrays": pack(released.update.arrays), "metrics": metrics, "about": about})


@lru_cache(maxsize=1024)  # the same in every round; Flower checks each key and value anew
def _about(agreement: str, site: str, weight: int, event: PrivacyEvent) -> ConfigRecord:
    known: dict[str, Value] = {"protocol": PROTOCOL, "agreement": agreement, "site": site, "weight": weight}
    cost: dict[str, Value] = {"epsilon": float(event.epsilon), "delta": float(event.delta)}
    return ConfigRecord({**known, "mechanism": event.mechanism, **cost})


def encode_request(arrays: Mapping[str, Array], config: Mapping[str, Value]) -> RecordDict:
    """Returns the records of a request: "arrays" and "config"."""
    return RecordDict({"arrays": pack(arrays), "config": ConfigRecord(dict(config))})


def decode_request(message: Message) -> tuple[dict[str, Array], dict[str, Value]]:
    """Returns the arrays and the config of a request; the arrays are the caller's own.

    Raises:
        RefusedError: the message is not a request of medtl, or an array's bytes are not what they claim.
    """
    arrays, config = (message.content.get(name) for name in ("arrays", "config"))
    if not isinstance(arrays, ArrayRecord) or not isinstance(config, ConfigRecord):
        raise RefusedError("malformed", "the request must hold an ArrayRecord 'arrays' and a ConfigRecord 'config'")
    values = {name: value for name, value in config.items() if isinstance(value, str | int | float | bool)}
    return {name: _unpack(array, name, None) for name, array in arrays.items()}, values


def pack(arrays: Mapping[str, Array]) -> ArrayRecord:
    """Returns arrays as a Flower record; TypeError for a dtype other than float64, float32 and int64."""
    for name, array in arrays.items():
        if array.dtype not in _NAMES:
            raise TypeError(f"array {name!r} has dtype {array.dtype}; convert it to one of {', '.join(DTYPES)}")
    # given arrays, Flower makes every one a second time
    return filled(ArrayRecord(), {str(name): _npy(array) for name, array in arrays.items()})


def _npy(array: Array) -> FlowerArray:
    """What Flower makes of an array, without numpy's general and slower way to write a file, and with a single copy."""
    head = _npy_header(array.shape, array.dtype.str)
    data = b"".join((head, np.ascontiguousarray(array).data))
    return FlowerArray(_NAMES[array.dtype], array.shape, "numpy.ndarray", data)


@lru_cache(maxsize=256)
def _npy_header(shape: tuple[int, ...], descr: str) -> bytes:
    stream = BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": descr, "fortran_order": False, "shape": shape})
    return stream.getvalue()


def validate(message: Message, expect: Expectation) -> Reply:
    """Returns the reply in a message, if it is exactly what was expected.

    Raises:
        RefusedError: it is not; its `code` is "error" (the site says it failed) or one of "run", "node", "malformed",
            "protocol", "agreement", "unknown-site", "weight", "witness", "unknown-array", "missing-array", "dtype",
            "shape", "header", "not-finite", "range", "step" and "untrue", or a word of `guard.FAULTS`.
    """
    arrays, metrics, about = _records(message, expect.site)
    if expect.run and message.metadata.run_id != expect.run:
        raise RefusedError("run", "the reply belongs to another Flower run")
    if expect.node and message.metadata.src_node_id != expect.node:
        raise RefusedError("node", "the reply comes from another node than the one asked")
    weight = _check_about(about, expect)
    witness = _witness(about) if expect.witness else None
    unknown, missing = sorted(arrays.keys() - expect.arrays.keys()), sorted(expect.arrays.keys() - arrays.keys())
    if unknown:
        raise RefusedError("unknown-array", f"array {unknown[0][:60]!r} was not asked for")
    if missing:
        raise RefusedError("missing-array", f"array {missing[0]!r} is missing")
    values = {name: _unpack(arrays[name], name, spec) for name, spec in expect.arrays.items()}
    for name, value in values.items():
        if fault := expect.arrays[name].fault(value):
            raise RefusedError(fault, f"array {name!r} {_FAULTS[fault]}")
    if expect.check is not None and (why := expect.check(values, weight)):
        raise RefusedError("untrue", why)
    return Reply(expect.site, values, _metrics(metrics), weight, witness)


@dataclass(frozen=True)
class Joined:
    """A hospital's answer to "join": its name, its number of training cases, the identity key it signed with or ""."""

    site: str
    weight: int
    key: str = ""


def validate_join(message: Message, agreement: str, *, run: int = 0, node: int = 0) -> Joined:
    """Returns the answer of a node to "join".

    Raises:
        RefusedError: as in `validate`; code "name" for a name that is no name, "weight" for one that is not between 1
            and a billion, "identity" for a signature that is not its key's over this run and node.
    """
    arrays, _, about = _records(message, "")
    site, weight = about.get("site"), about.get("weight")
    if not isinstance(site, str) or not _is_name(site):
        raise RefusedError("name", "the site's name must be 1 to 80 printable characters without a slash, in NFC")
    if type(weight) is not int or not 1 <= weight <= _MOST_CASES:
        raise RefusedError("weight", "the site's number of training cases must be a whole number from 1 to a billion")
    _check_about(about, Expectation(site, weight, agreement, {}))
    if arrays:
        raise RefusedError("unknown-array", "an answer to 'join' holds no array")
    try:
        return Joined(site, weight, introduced(about, Claim(site, agreement, run, node)))
    except PrivacyError as error:
        raise RefusedError("identity", str(error)) from error


def _is_name(site: str) -> bool:
    try:
        return site_name(site) == site
    except ConfigError:
        return False


def wire_bytes(content: RecordDict) -> int:
    """Returns the payload bytes of records: arrays with their .npy headers, values (8 bytes a number), and names.

    Flower's own envelope (a few hundred bytes per array) is not counted.
    """
    names = sum(map(len, content))
    return names + sum(len(key) + _bytes(value) for record in content.values() for key, value in record.items())


def _bytes(value: object) -> int:
    if isinstance(value, FlowerArray):
        return len(value.data)
    if isinstance(value, str | bytes):
        return len(value)
    return sum(map(_bytes, value)) if isinstance(value, list) else 8


def _records(message: Message, site: str) -> tuple[ArrayRecord, MetricRecord, ConfigRecord]:
    if message.has_error():
        fault = failure(site, message.error)
        raise RefusedError(fault.code, fault.text)
    content = message.content
    match [content.get(name) for name in ("arrays", "metrics", "about")]:
        case [ArrayRecord() as arrays, MetricRecord() as metrics, ConfigRecord() as about] if len(content) == 3:
            return arrays, metrics, about
    raise RefusedError("malformed", "a reply must hold the records 'arrays', 'metrics' and 'about', and nothing else")


def _check_about(about: ConfigRecord, expect: Expectation) -> int:
    if about.get("protocol") != PROTOCOL:
        raise RefusedError("protocol", f"the site does not speak protocol {PROTOCOL}; install the same medtl there")
    if about.get("agreement") != expect.agreement:
        raise RefusedError("agreement", "the site has other settings, classes or backbone weights than the server")
    if about.get("site") != expect.site:
        raise RefusedError("unknown-site", "the reply names another site than the one registered for its node")
    weight = about.get("weight")
    if type(weight) is not int or weight != expect.weight:
        raise RefusedError("weight", f"the site's weight is not the {expect.weight} it registered with")
    return weight


def _witness(about: ConfigRecord) -> Witness:
    try:
        witness = from_values(about)
    except PrivacyError as error:
        raise RefusedError("witness", str(error)) from error
    if witness is None:
        raise RefusedError("witness", "the reply does not say where the hospital's ledger stands")
    return witness


def _metrics(record: MetricRecord) -> dict[str, float]:
    values = {}
    if len(record) > _MOST_METRICS:
        raise RefusedError("malformed", f"it holds more than {_MOST_METRICS} metrics")
    for name, value in record.items():
        if not isinstance(value, int | float):
            raise RefusedError("malformed", f"metric {name[:60]!r} must be one number")
        if not abs(value) <= LARGEST:  # nor NaN
            raise RefusedError("not-finite", f"metric {name[:60]!r} is NaN, infinite or beyond {LARGEST:g}")
        values[name] = float(value)
    return values


def _unpack(array: FlowerArray, name: str, spec: ArraySpec | None) -> Array:
    """Decodes .npy bytes. Everything is compared with the header first: a lying one never allocates."""
    if spec is not None and (array.dtype != spec.dtype or array.dtype not in DTYPES):
        raise RefusedError("dtype", f"array {name!r} has dtype {array.dtype[:20]!r}, expected {spec.dtype}")
    if spec is not None and tuple(array.shape) != spec.shape:
        raise RefusedError("shape", f"array {name!r} has shape {str(array.shape)[:60]}, expected {spec.shape}")
    shape, fortran, dtype, start = _header(array.data, name)
    if _NAMES.get(dtype) != array.dtype or not dtype.isnative:
        raise RefusedError("header", f"array {name!r}: the header's dtype is not the declared {array.dtype[:20]!r}")
    size = len(array.data) - start
    if shape != tuple(array.shape) or min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize != size:
        raise RefusedError("header", f"array {name!r}: header, declared shape and number of bytes disagree")
    flat = np.frombuffer(array.data, dtype=dtype, offset=start)
    return np.array(flat.reshape(shape, order="F" if fortran else "C"), order="C")


def _header(data: bytes, name: str) -> tuple[tuple[int, ...], bool, np.dtype[np.generic], int]:
    length = int.from_bytes(data[8:10], "little") if data[6:7] == b"\x01" else 2048
    try:
        return _parsed(data[: min(10 + length, 2048)])
    except Exception as error:
        raise RefusedError("header", f"array {name!r}: the bytes are not in .npy format") from error


@lru_cache(maxsize=256)  # all hospitals of a round send the same few headers, and parsing one compiles Python text
def _parsed(head: bytes) -> tuple[tuple[int, ...], bool, np.dtype[np.generic], int]:
    stream = BytesIO(head)
    version = np.lib.format.read_magic(stream)
    read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[version]
    shape, fortran, dtype = read(stream)
    return tuple(shape), fortran, dtype, stream.tell()
