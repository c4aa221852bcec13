"""Shared fixtures."""

import pytest

from tests.memory import DirectHospitals, make_site


@pytest.fixture
def hospitals() -> DirectHospitals:
    """Five unequal hospitals; one has one case, one has one class."""
    sizes = {"a": 30, "b": 20, "c": 1, "d": 25, "e": 12}
    return DirectHospitals([make_site(name, n, skew=1 if name == "e" else None) for name, n in sizes.items()])
