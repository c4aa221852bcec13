"""Some of the agreed taps as feature columns: by name at the server, by number at the hospitals."""

import numpy as np
from numpy.typing import NDArray

from medtl_core.errors import ConfigError, did_you_mean
from medtl_core.federation.feature_map import FeatureMap, tasks_of
from medtl_core.federation.outcome import Problem
from medtl_core.federation.tasks import Arrays, Config, SiteData

#: The word for all agreed taps.
EVERY = "all"


def columns_of(problem: Problem, taps: str) -> NDArray[np.int64]:
    """Returns the feature columns of taps joined by "+", or of all of them.

    Raises:
        ConfigError: a tap is not among the agreed ones, or named twice.
    """
    known = {name: (start, stop) for name, start, stop in problem.groups}
    asked = list(known) if taps == EVERY else taps.split("+")
    for tap in asked:
        if tap not in known:
            raise ConfigError(f"taps@{taps}: tap {tap!r} is not among the agreed features; {did_you_mean(tap, known)}")
    if len(set(asked)) < len(asked):
        raise ConfigError(f"taps@{taps} names a tap twice")
    return np.concatenate([np.arange(*known[tap], dtype=np.int64) for tap in asked])


def _read(site: SiteData, arrays: Arrays, config: Config) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    columns = np.asarray(arrays["columns"], dtype=np.int64)
    if not len(columns) or columns.min() < 0 or columns.max() >= site.values.shape[1]:
        raise ConfigError(f"the server asked for feature columns outside 0..{site.values.shape[1] - 1}")
    return site.values[:, columns], site.label


#: The cases seen through some feature columns.
TAPS = FeatureMap("tap", _read)

TASKS = tasks_of(TAPS)
