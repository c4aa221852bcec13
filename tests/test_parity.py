"""One configuration, three roads: the same heads, byte for byte; and what goes wrong on a real network is named."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load

from client.app import app as client_app
from medtl_core.config import settings
from medtl_core.data.shared import shared_parts, shared_source
from medtl_core.deploy.status import SiteStatus
from medtl_core.errors import DataError
from medtl_core.flower.grid import run_local
from medtl_core.flower.processes.children import marked
from medtl_core.flower.processes.loopback import Deployment
from server.app import app as server_app
from tests.deployed import copy_app
from tests.harness.ray import flwr_run
from tests.hospital import made_hospital
from tests.manifest import write_manifest
from tests.methods.personal_sites import state_bytes

pytestmark = [pytest.mark.timeout(600), pytest.mark.usefixtures("clean_environment")]

#: Seconds a road may take; much more than it needs, for a busy machine.
PATIENCE = 300.0
#: Every message of a deployed hospital is a new process: few of them, which sum, train and draw an order of the cases.
RUN: dict[str, Any] = {
    "data": "phantom", "sites": 2, "shots": 12, "image-size": 32, "features": "4", "methods": "fedavg-1",
    "batch-size": 5, "bootstrap": 20, "deadline": 200.0,
}  # fmt: skip

Heads = dict[str, bytes]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("parity")


@pytest.fixture(scope="module")
def app(folder: Path) -> Path:
    return copy_app(folder)


@pytest.fixture(scope="module")
def reference(folder: Path) -> Heads:
    return in_process(folder, "reference")


def config(folder: Path, road: str) -> dict[str, Any]:
    return {**RUN, "cache": str(folder / "cache"), "out": str(folder / f"out of {road}")}


def in_process(folder: Path, road: str, *, workers: int = 1, wire: bool = False) -> Heads:
    nodes = [{"partition-id": index, "num-partitions": 2} for index in range(2)]
    run_config = config(folder, road)
    run_local(server_app, client_app, node_configs=nodes, run_config=run_config, workers=workers, wire=wire)
    return heads(run_config)


def heads(run_config: dict[str, Any]) -> Heads:
    return {path.stem: path.read_bytes() for path in (Path(run_config["out"]) / "heads").glob("*.safetensors")}


def test_threads_and_the_wire_format_give_the_same_heads(folder: Path, reference: Heads) -> None:
    (arrays,) = map(load, reference.values())
    assert all(np.isfinite(array).all() and array.any() for array in arrays.values())
    assert in_process(folder, "threads", workers=2) == in_process(folder, "wire", wire=True) == reference


@pytest.mark.deployed
def test_flwr_run_gives_the_same_heads(folder: Path, app: Path, reference: Heads) -> None:
    run_config = config(folder, "flwr run")
    assert flwr_run(app, run_config, nodes=2, home=folder / "ray", timeout=PATIENCE) == "finished:completed"
    assert not marked(folder / "ray"), "SuperLink, SuperExec or Ray outlived the run"
    assert heads(run_config) == reference


@pytest.mark.deployed
@pytest.mark.slow
def test_a_ray_cluster_of_two_nodes_gives_the_same_heads(folder: Path, app: Path, reference: Heads) -> None:
    """The head node has no CPU for hospitals: the other one answers for all of them."""
    pytest.importorskip("ray", reason="needs medtl[ray]")
    run_config = config(folder, "cluster")
    home, cluster = folder / "nodes", (0, 2)
    assert flwr_run(app, run_config, nodes=2, home=home, timeout=PATIENCE, cluster=cluster) == "finished:completed"
    assert not marked(home), "a node of the Ray cluster outlived the run"
    assert heads(run_config) == reference


@pytest.mark.deployed
def test_a_deployment_gives_the_same_heads_and_names_what_goes_wrong(folder: Path, app: Path, reference: Heads) -> None:
    """Each hospital reads its own folder of files, which the server never sees; a third one's is not there."""
    run_config = {**config(folder, "deployment"), "sites": 3, "quorum": 0.5}
    examples, nodes = shared_source(settings(RUN)).examples, []
    for part in shared_parts(settings(RUN)).sites:
        own = folder / "hospitals" / f"the data of {part.name}"
        write_manifest(examples.take(np.concatenate([part.train, part.test])), own)
        nodes.append({"site-name": part.name, "data-path": str(own)})
    hospitals = [folder / "deployed" / "hospitals" / node["site-name"] for node in nodes]
    (folder / "4711").mkdir()
    nodes.append(made_hospital(folder / "own" / "broken", "broken", folder / "4711"))
    (folder / "4711").rmdir()
    personal = {"methods": "fedper-2", "test": "sites"}
    apart = {**config(folder, "personal"), **personal, "sites": 3, "quorum": 0.5}
    with Deployment(nodes, home=folder / "deployed") as deployment:
        assert deployment.run(app, run_config, timeout=PATIENCE) == "finished:completed"
        stages = [SiteStatus.of(one).lines()["stage"] for one in (*hospitals, folder / "own" / "broken")]
        assert deployment.run(app, apart, timeout=PATIENCE) == "finished:completed"
    assert not marked(folder / "deployed"), "a SuperLink, a SuperNode or what they started outlived the context"
    assert heads(run_config) == reference
    result = (Path(run_config["out"]) / "result.json").read_text(encoding="utf-8")
    (failure,) = json.loads(result)["failures"]
    assert (failure["code"], failure["text"]) == ("error", f"DataError: {DataError.public_text}")
    assert "4711" not in result
    assert ["refused or failed" in stage for stage in stages] == [False] * (len(nodes) - 1) + [True]
    assert all("answered at" in stage for stage in stages[:-1])
    check_personal(folder, hospitals, apart, personal)


def check_personal(folder: Path, hospitals: Sequence[Path], apart: dict[str, Any], personal: dict[str, Any]) -> None:
    """Every message of a deployed hospital is a new process: only its disk remembers, and the simulation's bytes."""
    shared = {**config(folder, "simulation"), **personal, "state": str(folder / "simulated")}
    parts = [{"partition-id": index, "num-partitions": 2} for index in range(2)]
    run_local(server_app, client_app, node_configs=parts, run_config=shared, workers=1)
    one, two = (json.loads((Path(values["out"]) / "result.json").read_text("utf-8")) for values in (shared, apart))
    assert two["methods"]["fedper-2"]["figures"] == one["methods"]["fedper-2"]["figures"]
    own = [tensors(hospital) for hospital in hospitals]
    assert all(own) and own[0] | own[1] == tensors(folder / "simulated")


def tensors(folder: Path) -> dict[str, bytes]:
    """Arrays of personal state by hospital and name; the folder before them names what was agreed, `sites` included."""
    files = {name.partition("/")[2]: content for name, content in state_bytes(folder).items() if "fedper" in name}
    return {name: content for name, content in files.items() if name.endswith(".safetensors")}
