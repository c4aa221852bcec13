"""The server's own labelled cases, on which the federation's heads are judged."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from medtl_core.config import Settings
from medtl_core.data.faults import Faults
from medtl_core.data.shared import judged_rows, shared_parts, shared_source
from medtl_core.data.source import Source
from medtl_core.errors import ConfigError, DataError
from medtl_core.features.dataset import Material
from medtl_core.features.extract import Spec, feature_spec
from medtl_core.federation.method import Method
from medtl_core.federation.registry import multi_label
from medtl_core.values import MULTI_LABEL, Array, Scores

_LOG = logging.getLogger("medtl")


@dataclass(frozen=True)
class TestSet:
    """Labelled features the server may judge on.

    Attributes:
        values, label, site: float32 [n, d], int64 [n], str [n].
        group: int64 [n], anonymous patient numbers.
        material: the cases themselves, for models that look deeper.
    """

    __test__ = False  # not a pytest class

    values: NDArray[np.float32]
    label: NDArray[np.int64]
    site: Array
    group: NDArray[np.int64]
    material: Material | None = None

    def scores(self, logits: NDArray[np.float64]) -> Scores:
        """Returns logits [n, C] with what they are judged against."""
        more = [self.material.examples.columns.get(name) if self.material else None for name in ("time", "labels")]
        return Scores(logits, self.label, self.site, self.group, *more)


@dataclass(frozen=True)
class Reference:
    """What the server knows before it asks: the task, the features to agree on, and its own cases, if any."""

    source: Source
    spec: Spec
    cases: TestSet | None

    @property
    def columns(self) -> tuple[str, ...]:
        """See `Facts.columns`."""
        return self.source.columns

    @property
    def followed(self) -> bool:
        """Whether cases were followed over time."""
        return "time" in self.source.examples.columns

    def fitting(self, methods: Sequence[Method]) -> tuple[Method, ...]:
        """Returns the methods, of a multi-label task those of the same names that answer it.

        Raises:
            ConfigError: one needs other cases; names the first.
        """
        there = {"any": True, "table": "table" in self.source.examples.columns, "followed": self.followed}
        for method in methods:
            if not there[method.cases]:
                needed = "a table (records)" if method.cases == "table" else "records with an event and a time"
                raise ConfigError(f"{method.name} needs {needed}; drop it, or name such data")
        return multi_label(methods) if self.source.examples.task.kind == MULTI_LABEL else tuple(methods)


def open_reference(settings: Settings, workers: int) -> Reference:
    """Returns the server's reference; its test cases are loaded only when `settings.test` says "server".

    Raises:
        DataError: the server should judge but has no labelled test case.
    """
    source = shared_source(settings.replace(data_path=settings.test_path or settings.data_path))
    spec = feature_spec(settings, source.entry.views, source.columns)
    if settings.test != "server":
        return Reference(source, spec, None)
    own = bool(settings.test_path)
    rows = judged_rows(source.examples) if own else shared_parts(settings).server_test
    if not len(rows):
        raise DataError("the server has no test case: give test-path, a split column with 'test', or test=sites")
    entry, faults = source.entry, Faults()
    asked = Material(source.examples.take(rows), settings, entry.views, source.columns, entry.modality)
    material, features = asked.readable(faults, private=False, workers=workers)
    faults.check("test-path" if own else "test", len(rows))
    left_out = (*(source.faults if own else ()), *faults.causes)
    for fault in left_out:
        _LOG.warning("left out: %s", fault)
    notes = (*source.notes, *(f"Left out: {fault.counted}." for fault in left_out))
    cases = material.examples
    group = np.unique(cases["patient"], return_inverse=True)[1].astype(np.int64)
    judged = TestSet(features.values, cases["label"], cases["site"], group, material)
    return Reference(replace(source, notes=notes), spec, judged)
