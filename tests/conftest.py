"""Shared fixtures."""

import os
from collections.abc import Iterator

import pytest

from simulations.memory import MemoryHospitals
from tests.memory import make_site


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="write tests/golden/golden.json anew")


def pytest_configure() -> None:
    """One numeric thread, as `make` sets, whatever test loads a library first: last bits depend on their number."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")


@pytest.fixture
def hospitals() -> MemoryHospitals:
    """Five unequal hospitals; one has one case, one has one class."""
    sizes = {"a": 30, "b": 20, "c": 1, "d": 25, "e": 12}
    return MemoryHospitals([make_site(name, n, skew=1 if name == "e" else None) for name, n in sizes.items()])


@pytest.fixture(scope="session", autouse=True)
def own_folders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test reads or writes the user's cache or backbones, nor does a process it starts; workers share one cache."""
    shared = (
        tmp_path_factory.getbasetemp().parent if "PYTEST_XDIST_WORKER" in os.environ else tmp_path_factory.mktemp("c")
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEDTL_CACHE", str(shared / "medtl-cache"))
        patch.setenv("MEDTL_HOME", str(tmp_path_factory.mktemp("medtl-home")))
        yield


@pytest.fixture(scope="module")
def one_torch_thread() -> Iterator[None]:
    """As in a hospital's process: the bytes of a feature depend on the number of threads."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def clean_environment() -> Iterator[None]:
    """Real processes, and one road after another, must not change this process' environment."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)
