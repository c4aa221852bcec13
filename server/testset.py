"""The server's own labelled cases, on which the federation's heads are judged."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from medtl_core.config import Settings
from medtl_core.data.faults import Faults
from medtl_core.data.shared import judged_rows, readable_rows, shared_parts, shared_source
from medtl_core.data.source import Source
from medtl_core.errors import DataError
from medtl_core.features.dataset import Material
from medtl_core.features.extract import Spec, extract, feature_spec
from medtl_core.values import Array, Scores


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
        return Scores(logits, self.label, self.site, self.group)


@dataclass(frozen=True)
class Reference:
    """What the server knows before it asks: the task, the features to agree on, and its own cases, if any."""

    source: Source
    spec: Spec
    cases: TestSet | None


def open_reference(settings: Settings, workers: int) -> Reference:
    """Returns the server's reference; its test cases are loaded only when `settings.test` says "server".

    Raises:
        DataError: the server should judge but has no labelled test case.
    """
    source = shared_source(settings.replace(data_path=settings.test_path or settings.data_path))
    spec = feature_spec(settings, source.entry.views, source.columns)
    if settings.test != "server":
        return Reference(source, spec, None)
    examples = source.examples
    if settings.test_path:  # the server's own cases
        faults = Faults()
        rows = readable_rows(examples, judged_rows(examples), "test-path", faults)
        left_out = [f"Left out: {fault}." for fault in (*source.faults, *faults.causes)]
        source = replace(source, notes=(*source.notes, *left_out))
    else:
        rows = shared_parts(settings).server_test
    if not len(rows):
        raise DataError("the server has no test case: give test-path, a split column with 'test', or test=sites")
    cases = examples.take(rows)
    values = extract(cases, spec, settings, workers=workers).values
    group = np.unique(cases["patient"], return_inverse=True)[1].astype(np.int64)
    material = Material(cases, settings, source.entry.views, source.columns, source.entry.modality)
    return Reference(source, spec, TestSet(values, cases["label"], cases["site"], group, material))
