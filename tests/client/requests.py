"""Private requests as a server may send them: right ones, and ones that are wrong in every way."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import numpy as np

from medtl_core.config import Settings
from medtl_core.federation.private import PrivateMethod, terms_of
from medtl_core.federation.registry import find_method
from medtl_core.privacy.plan import Plan
from medtl_core.values import Array

METHODS = (
    "private-mean", "private-mean-1", "private-prototypes", "private-prototypes-3-cosine", "private-auto",
    "private-gradient-2",
)  # fmt: skip
NUMBERS = (np.nan, np.inf, -np.inf, 1e308, -1e308, 1e155, 1.1e6, -1e6, 1e-320, 0.0, -0.0, 1e-6, 9e-7)


@dataclass(frozen=True)
class Asked:
    """One request.

    Attributes:
        task: that is asked for.
        arrays, config: of the message.
    """

    task: str
    arrays: dict[str, Any]
    config: dict[str, Any] = field(default_factory=dict)

    def with_array(self, name: str, array: Any) -> "Asked":
        return replace(self, arrays={**self.arrays, name: array})

    def with_word(self, name: str, value: Any) -> "Asked":
        return replace(self, config={**self.config, name: value})


@cache
def _planned(name: str, chosen: Settings, width: int, classes: int) -> tuple[PrivateMethod, Plan]:
    method = find_method(name)
    assert isinstance(method, PrivateMethod)
    return method, method.plan(terms_of(chosen, width, classes))


def right(rng: np.random.Generator, chosen: Settings, width: int, classes: int) -> Asked:
    """A request as `chosen` and a method's plan have it."""
    method, plan = _planned(str(rng.choice(METHODS)), chosen, width, classes)
    number = int(rng.integers(len(plan.steps)))
    step, size = plan.steps[number], int(rng.integers(1, width + 1))
    length = float(rng.choice([0.0, 1.0, 1e6]))
    basis = np.linalg.qr(rng.standard_normal((width, width)))[0][:, :size]
    arrays = {"mean": rng.uniform(-1, 1, width) * length, "scale": rng.uniform(0.5, 2.0, width), "basis": basis}
    if step.task == "private_sums":
        arrays["centre"] = rng.uniform(-1, 1, size) * length
    if step.task == "private_gradient":
        arrays["head"] = rng.uniform(-1, 1, (classes, size)) * length
    config = {
        "method": method.name, "step": number, "round": int(rng.integers(1, step.count + 1)), "plan": plan.digest,
    }  # fmt: skip
    if step.task in ("private_sums", "private_statistics"):
        config["gram"] = "gram" in step.noise
    return Asked(step.task, arrays, config)


def _array(asked: Asked, rng: np.random.Generator) -> tuple[str, Array]:
    name = str(rng.choice([*asked.arrays] or ["mean"]))
    array = asked.arrays.get(name, np.zeros(2))
    return name, np.array(array if array.dtype == np.float64 else np.ones(array.shape))


def _number(asked: Asked, rng: np.random.Generator) -> Asked:
    name, array = _array(asked, rng)
    if array.size:
        array.reshape(-1)[rng.integers(array.size)] = rng.choice(NUMBERS)
    return asked.with_array(name, array)


def _all(asked: Asked, rng: np.random.Generator) -> Asked:
    name, array = _array(asked, rng)
    return asked.with_array(name, np.full(array.shape, rng.choice(NUMBERS)))


def _overflow(asked: Asked, rng: np.random.Generator) -> Asked:
    """A map that leaves float64 for some patients and for others not."""
    big = float(10.0 ** rng.integers(250, 308))
    wide = np.zeros((len(np.atleast_1d(asked.arrays.get("mean", [0.0]))), 1))
    wide[::2] = rng.choice([-1.0, 1.0]) * np.sqrt(big)
    small = np.full(len(wide), 1 / np.sqrt(big))
    return asked.with_array("basis", wide).with_array("scale", small)


def _shape(asked: Asked, rng: np.random.Generator) -> Asked:
    """Of as many rows as there may be cases, patients or classes; and other shapes."""
    name, array = _array(asked, rng)
    count = int(rng.integers(0, 14))
    shapes: list[Callable[[], Array]] = [
        lambda: np.broadcast_to(array, (count, *array.shape)),
        lambda: np.zeros((count, *array.shape[1:])),
        lambda: np.zeros((*array.shape[:-1], count)),
        lambda: array.T,
        lambda: array[..., None],
        lambda: array[:-1] if array.ndim else array,
        lambda: np.zeros(()),
        lambda: array.reshape(-1),
    ]
    return asked.with_array(name, np.array(shapes[rng.integers(len(shapes))]()))


def _kind(asked: Asked, rng: np.random.Generator) -> Asked:
    name, array = _array(asked, rng)
    kinds = ("float32", "int64", "bool", "complex128", "U9", "object", ">f8", "float16", "M8[s]")
    with np.errstate(all="ignore"):
        return asked.with_array(name, np.nan_to_num(array.astype(np.float64)).astype("i8").astype(rng.choice(kinds)))


def _names(asked: Asked, rng: np.random.Generator) -> Asked:
    known = ("mean", "scale", "basis", "centre", "head", "weights", "x", "", "head.weight", "units.0.weight", "Mean")
    name = str(rng.choice(known))
    if rng.random() < 0.5:
        return asked.with_array(name, np.zeros(int(rng.integers(0, 4))))
    return replace(asked, arrays={key: array for key, array in asked.arrays.items() if key != name})


def _word(asked: Asked, rng: np.random.Generator) -> Asked:
    name = str(rng.choice(["method", "step", "round", "plan", "gram", "scope", "epsilon", "witness-seq", "inner", ""]))
    words = ("", "0", "private-mean", "ridge", "0" * 64, "\n")
    values = (0, 1, -1, 2, 2**62, True, False, 1.0, float("nan"), None, *words)
    if rng.random() < 0.2:
        return replace(asked, config={key: value for key, value in asked.config.items() if key != name})
    return asked.with_word(name, values[rng.integers(len(values))])


def _task(asked: Asked, rng: np.random.Generator) -> Asked:
    tasks = ("moments", "evaluate", "private_mean", "private_counts", "private_sums", "private_block", "x", "")
    return replace(asked, task=str(rng.choice(tasks)))


def _method(asked: Asked, rng: np.random.Generator) -> Asked:
    names = (*METHODS, "private-finetune-last-1", "private-gradient-999", "private-mean-9999", "ridge", "private-")
    return asked.with_word("method", str(rng.choice(names)))


WRONGS = (_number, _number, _all, _overflow, _overflow, _shape, _shape, _kind, _names, _word, _task, _method)


def some_request(rng: np.random.Generator, chosen: Settings, width: int, classes: int) -> Asked:
    """A right request in one of four, else one with up to three things wrong."""
    asked = right(rng, chosen, width, classes)
    for _ in range(int(rng.choice([0, 1, 1, 1, 2, 3]))):
        asked = WRONGS[rng.integers(len(WRONGS))](asked, rng)
    return asked
