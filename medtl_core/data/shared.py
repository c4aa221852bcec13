"""One load of shared data per process: in a simulation, server and hospitals read the same cases.

What is kept are pure functions of the settings, a few of them; nothing asks whether a load was remembered.
"""

from functools import lru_cache
from threading import RLock

import numpy as np

from medtl_core.config import Settings
from medtl_core.data.leak import check_leaks, joined
from medtl_core.data.partition import Index, Parts, partition
from medtl_core.data.readers import overview
from medtl_core.data.source import Source, open_source
from medtl_core.errors import DataError
from medtl_core.values import Examples

#: Settings that decide how cases are cut, at their usual values: they choose none that lie in a folder.
_CUTS = {name: getattr(Settings, name) for name in ("sites", "shots", "partition", "alpha", "leave_out", "image_size")}
#: Hospitals simulated in threads arrive together; the first loads, the others wait for it.
_LOADING = RLock()


def shared_source(settings: Settings) -> Source:
    """Returns the cases `settings` name, loaded once for all settings that name the same cases."""
    chosen = settings.of_data()
    with _LOADING:
        return _source(chosen.replace(**_CUTS) if chosen.data_path else chosen)


def shared_parts(settings: Settings) -> Parts:
    """Returns which hospital holds which rows of `shared_source`, drawn once per seed."""
    with _LOADING:
        return _parts(settings.of_data(seed=settings.seed))


def judged_rows(examples: Examples) -> Index:
    """Returns the rows of a `test_path` that are judged: its test split, or all where it states none."""
    test = np.flatnonzero(examples["split"] == "test")
    return test if len(test) else np.arange(len(examples))


def check_sides(settings: Settings) -> None:
    """Refuses a simulation of which two sides share a patient or an image, or measure other things.

    Raises:
        DataError: names the cases and the sides, or the columns or classes that differ between data and `test_path`.
    """
    source, parts = shared_source(settings), shared_parts(settings)
    check_leaks(source.examples, parts.sides())
    if settings.test_path:
        test = shared_source(settings.replace(data_path=settings.test_path))
        for what, here, there in (
            ("columns", source.columns, test.columns),
            ("classes", source.examples.task.classes, test.examples.task.classes),
        ):
            if here != there:
                strange = ", ".join(sorted({*here} ^ {*there})[:5]) or "their order"
                raise DataError(f"test-path {settings.test_path} has other {what} than the data: {strange}")
        trains = np.concatenate([site.train for site in parts.sites])
        sides = {"train": trains, "test-path": len(source.examples) + judged_rows(test.examples)}
        known = source.has_patients and test.has_patients
        if not known and "table" in source.examples.columns:
            overview().check_rows(source.examples.take(trains), test.examples.take(judged_rows(test.examples)))
        check_leaks(joined(source.examples, test.examples, patients=known), sides)


@lru_cache(maxsize=2)
def _source(settings: Settings) -> Source:
    return open_source(settings)


@lru_cache(maxsize=16)
def _parts(settings: Settings) -> Parts:
    return partition(shared_source(settings).examples, settings)
