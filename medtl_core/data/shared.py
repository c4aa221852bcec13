"""One load of shared data per process: in a simulation, server and hospitals read the same cases.

What is kept are pure functions of the settings, a few of them; nothing asks whether a load was remembered.
"""

from functools import lru_cache
from threading import RLock

from medtl_core.config import Settings
from medtl_core.data.partition import Parts, partition
from medtl_core.data.source import Source, open_source

#: Hospitals simulated in threads arrive together; the first loads, the others wait for it.
_LOADING = RLock()


def shared_source(settings: Settings) -> Source:
    """Returns the cases `settings` name, loaded once for all settings that name the same cases."""
    with _LOADING:
        return _source(settings.of_data())


def shared_parts(settings: Settings) -> Parts:
    """Returns which hospital holds which rows of `shared_source`, drawn once per seed."""
    with _LOADING:
        return _parts(settings.of_data(seed=settings.seed))


@lru_cache(maxsize=2)
def _source(settings: Settings) -> Source:
    return open_source(settings)


@lru_cache(maxsize=16)
def _parts(settings: Settings) -> Parts:
    return partition(shared_source(settings).examples, settings)
