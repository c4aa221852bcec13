"""How this process runs: numeric threads, what computes features, and log lines that nobody wants to read now."""

import logging
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache

from medtl_core.errors import ConfigError

_DEVICE = re.compile(r"auto|(cpu|cuda(?::\d+)?)(:bf16)?")


@lru_cache(maxsize=1)  # looking for the loaded libraries takes milliseconds; every message asks
def one_thread() -> None:
    """Sets BLAS and torch to one thread in this process.

    Hospitals run side by side: with several busy ones on one machine two threads each were 4 to 16 times slower. And a
    matrix product's last bits depend on the number of threads.
    """
    from threadpoolctl import threadpool_limits

    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = "1"  # for libraries that are loaded later
    threadpool_limits(limits=1)
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(1)


@contextmanager
def quiet(name: str, level: int) -> Iterator[None]:
    """Lets only lines of at least this level through one logger meanwhile."""
    logger = logging.getLogger(name)
    before = logger.level
    logger.setLevel(level)
    try:
        yield
    finally:
        logger.setLevel(before)


@dataclass(frozen=True)
class Processor:
    """What computes features.

    Attributes:
        place: "cpu", "cuda" or "cuda:N".
        half: whether convolutions multiply in bf16, which keeps two or three digits.
    """

    place: str = "cpu"
    half: bool = False

    @property
    def kind(self) -> str:
        """The place without its number."""
        return self.place.partition(":")[0]


CPU = Processor()


def check_device(word: str) -> str:
    """Returns a setting `device`, if it is one: "auto", "cpu", "cuda" or "cuda:N", with ":bf16" behind if need be.

    Raises:
        ConfigError: it is none.
    """
    if not _DEVICE.fullmatch(word):
        raise ConfigError(f"device={word!r} is not known; choose auto, cpu, cuda or cuda:N, or cuda:bf16 for speed")
    return word


def processor(word: str) -> Processor:
    """Returns what a setting `device` names here; "auto" is a GPU where there is one.

    Raises:
        ConfigError: the word is none, or a GPU that it names is not here.
    """
    match = _DEVICE.fullmatch(check_device(word))
    place, half = match.groups() if match else (None, None)
    if place == "cpu":
        return Processor("cpu", bool(half))
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if place is None:
        place = "cuda" if count else "cpu"
    number = place.partition(":")[2] or "0"
    if place != "cpu" and int(number) >= count:
        raise ConfigError(
            f"device={word} is not here: torch sees {count} GPU(s). Set device=auto or cpu, or install the driver and "
            "a torch that is built for the GPU"
        )
    torch.backends.cudnn.allow_tf32 = False  # a shorter format in all but name; who wants speed asks for bf16
    return Processor(place, bool(half))
