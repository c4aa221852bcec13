"""Log lines that nobody wants to read now: kept off the screen for a while."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet(name: str, level: int) -> Iterator[None]:
    """Lets only lines of at least this level through one logger meanwhile.

    Example:
        >>> with quiet("medtl", logging.ERROR):
        ...     logging.getLogger("medtl").isEnabledFor(logging.WARNING)
        False
    """
    logger = logging.getLogger(name)
    before = logger.level
    logger.setLevel(level)
    try:
        yield
    finally:
        logger.setLevel(before)
