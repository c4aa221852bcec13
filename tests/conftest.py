"""Shared fixtures."""

import os
from collections.abc import Iterator

import pytest

from tests.memory import DirectHospitals, make_site


@pytest.fixture
def hospitals() -> DirectHospitals:
    """Five unequal hospitals; one has one case, one has one class."""
    sizes = {"a": 30, "b": 20, "c": 1, "d": 25, "e": 12}
    return DirectHospitals([make_site(name, n, skew=1 if name == "e" else None) for name, n in sizes.items()])


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test reads or writes the user's feature cache, nor does a process it starts."""
    before = os.environ.get("MEDTL_CACHE")
    os.environ["MEDTL_CACHE"] = str(tmp_path_factory.mktemp("features"))
    yield
    if before is None:
        del os.environ["MEDTL_CACHE"]
    else:
        os.environ["MEDTL_CACHE"] = before
