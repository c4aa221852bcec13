"""How this process runs: numeric threads, and log lines that nobody wants to read now."""

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache


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
    torch = sys.modules.get("torch")
    if torch is not None:
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
