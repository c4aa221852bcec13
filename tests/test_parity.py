"""One configuration, three roads: the same heads, byte for byte."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from client.app import app as client_app
from medtl_core.config import settings
from medtl_core.data.manifest import write_manifest
from medtl_core.data.shared import shared_parts, shared_source
from medtl_core.flower.grid import run_local
from server.app import app as server_app
from tests.deployed import copy_app
from tests.harness.children import marked
from tests.harness.processes import Deployment, flwr_run

pytestmark = [pytest.mark.deployed, pytest.mark.timeout(900), pytest.mark.usefixtures("clean_environment")]

#: Seconds a road may take; much more than it needs, for a busy machine.
PATIENCE = 400.0
RUN: dict[str, Any] = {
    "data": "phantom", "sites": 2, "shots": 12, "image-size": 64, "methods": "discriminant,fedavg-2",
    "bootstrap": 20, "deadline": 300.0,
}  # fmt: skip

Heads = dict[str, tuple[str, dict[str, np.ndarray]]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("parity")


@pytest.fixture(scope="module")
def app(folder: Path) -> Path:
    return copy_app(folder)


@pytest.fixture(scope="module")
def reference(folder: Path) -> Heads:
    return in_process(folder, "reference")


@pytest.fixture(scope="module")
def hospitals(folder: Path) -> list[dict[str, str]]:
    """Every hospital's cases in a folder of its own, with the node config that names it."""
    chosen = settings(RUN)
    examples = shared_source(chosen).examples
    nodes = []
    for part in shared_parts(chosen).sites:
        own = folder / "hospitals" / f"the data of {part.name}"
        write_manifest(examples.take(np.concatenate([part.train, part.test])), own)
        nodes.append({"data-path": str(own), "site-name": part.name})
    return nodes


def config(folder: Path, road: str) -> dict[str, Any]:
    return {**RUN, "cache": str(folder / "cache"), "out": str(folder / f"out of {road}")}


def in_process(folder: Path, road: str, *, workers: int = 1, wire: bool = False) -> Heads:
    nodes = [{"partition-id": index, "num-partitions": 2} for index in range(2)]
    run_config = config(folder, road)
    run_local(server_app, client_app, node_configs=nodes, run_config=run_config, workers=workers, wire=wire)
    return heads(run_config)


def heads(run_config: dict[str, Any]) -> Heads:
    files = sorted((Path(run_config["out"]) / "heads").glob("*.safetensors"))
    return {path.stem: (hashlib.sha256(path.read_bytes()).hexdigest(), load_file(path)) for path in files}


def assert_same(found: Heads, expected: Heads) -> None:
    assert found.keys() == expected.keys()
    for name, (digest, arrays) in found.items():
        for key, array in arrays.items():
            np.testing.assert_array_equal(array, expected[name][1][key], err_msg=f"{name}: {key}")
        assert digest == expected[name][0], name


def test_the_reference_holds_a_head_of_every_method(reference: Heads) -> None:
    assert set(reference) == {"discriminant", "fedavg-2"}
    for _, arrays in reference.values():
        assert all(np.isfinite(array).all() for array in arrays.values())
        assert any(array.any() for array in arrays.values())


def test_threads_give_the_same_heads(folder: Path, reference: Heads) -> None:
    assert_same(in_process(folder, "threads", workers=2), reference)


def test_the_wire_format_gives_the_same_heads(folder: Path, reference: Heads) -> None:
    assert_same(in_process(folder, "wire", wire=True), reference)


def test_flwr_run_gives_the_same_heads(folder: Path, app: Path, reference: Heads) -> None:
    run_config = config(folder, "flwr run")
    assert flwr_run(app, run_config, nodes=2, home=folder / "ray", timeout=PATIENCE) == "finished:completed"
    assert not marked(folder / "ray"), "SuperLink, SuperExec or Ray outlived the run"
    assert_same(heads(run_config), reference)


def test_a_deployment_gives_the_same_heads(
    folder: Path, app: Path, reference: Heads, hospitals: list[dict[str, str]]
) -> None:
    """Each hospital reads its own folder of files; the server never sees them."""
    run_config = config(folder, "deployment")
    with Deployment(hospitals, home=folder / "deployed") as deployment:
        assert deployment.run(app, run_config, timeout=PATIENCE) == "finished:completed"
    assert_same(heads(run_config), reference)
