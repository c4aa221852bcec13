"""Personal state with real processes: every message of a deployed hospital is a new one, only its disk remembers."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client.app import app as client_app
from medtl_core.config import settings
from medtl_core.data.shared import shared_parts, shared_source
from medtl_core.flower.grid import run_local
from server.app import app as server_app
from tests.deployed import copy_app
from tests.harness.processes import Deployment
from tests.hospital import made_hospital
from tests.manifest import write_manifest
from tests.methods.personal_sites import state_bytes

pytestmark = [pytest.mark.deployed, pytest.mark.timeout(900), pytest.mark.usefixtures("clean_environment")]

RUN: dict[str, Any] = {
    "data": "phantom", "sites": 2, "shots": 12, "image-size": 64, "methods": "fedper-2", "test": "sites",
    "bootstrap": 20, "deadline": 300.0,
}  # fmt: skip


def test_a_deployed_hospital_ends_with_the_bytes_of_the_simulation(tmp_path: Path) -> None:
    chosen, cache = settings(RUN), str(tmp_path / "cache")
    examples, nodes = shared_source(chosen).examples, []
    for part in shared_parts(chosen).sites:
        own = tmp_path / "hospitals" / part.name
        write_manifest(examples.take(np.concatenate([part.train, part.test])), own)
        nodes.append(made_hospital(tmp_path / "deployed" / part.name, part.name, own))
    simulated = {**RUN, "cache": cache, "out": str(tmp_path / "one"), "state": str(tmp_path / "simulated")}
    parts = [{"partition-id": index, "num-partitions": 2} for index in range(2)]
    run_local(server_app, client_app, node_configs=parts, run_config=simulated, workers=1)
    deployed = {**RUN, "cache": cache, "out": str(tmp_path / "two")}
    with Deployment(nodes, home=tmp_path / "flower") as deployment:
        assert deployment.run(copy_app(tmp_path), deployed, timeout=400.0) == "finished:completed"
    one, two = (json.loads((tmp_path / name / "result.json").read_text(encoding="utf-8")) for name in ("one", "two"))
    assert two["failures"] == []
    assert two["methods"]["fedper-2"]["figures"] == one["methods"]["fedper-2"]["figures"]
    of_each = [state_bytes(Path(node["hospital"])) for node in nodes]
    kept = {name: content for files in of_each for name, content in files.items() if "fedper" in name}
    assert kept == state_bytes(tmp_path / "simulated")
