"""A toy app on real Flower processes: hostile and failing hospitals are named over the real network, too."""

import json
import struct
import textwrap
from pathlib import Path

import pytest

from medtl_core.errors import RunError
from tests.harness.children import marked
from tests.harness.processes import Deployment, flwr_run

pytestmark = [pytest.mark.deployed, pytest.mark.timeout(300)]

ROOT = Path(__file__).resolve().parents[2]

PROJECT = """
[project]
name = "toy"
version = "0.1.0"
description = "three hospitals: one honest, one that raises, one that lies about its weight"
license = { text = "Apache-2.0" }
dependencies = []

[tool.flwr.app]
publisher = "medtl"
fab-include = ["toy/*.py"]

[tool.flwr.app.components]
serverapp = "toy.server:app"
clientapp = "toy.client:app"

[tool.flwr.app.config]
out = ""
sites = 3
"""

CLIENT = """
from flwr.app import ConfigRecord, Message
from flwr.clientapp import ClientApp

from medtl_core.errors import DataError
from medtl_core.flower.guard import guarded
from medtl_core.flower.records import decode_request, encode
from medtl_core.values import Released, Update

app = ClientApp()


def reply(message, context, arrays):
    part = int(context.node_config["partition-id"])
    return encode(Released(Update(arrays)), agreement="agreed", site=f"h{part}", weight=10 + part)


@app.query("join")
@guarded
def join(message, context):
    return Message(reply(message, context, {}), reply_to=message)


@app.train("double")
@guarded
def double(message, context):
    part = int(context.node_config["partition-id"])
    if part == 1:
        raise DataError("patient 4711 in /data/x.png")
    arrays, _ = decode_request(message)
    content = reply(message, context, {"x": arrays["x"] * 2})
    if part == 2:
        content["about"]["weight"] = 10**9
    return Message(content, reply_to=message)
"""

SERVER = """
import json
from pathlib import Path

import numpy as np
from flwr.serverapp import ServerApp

from medtl_core.flower.exchange import GridHospitals, ExchangeTerms
from medtl_core.federation.hospitals import ArraySpec, Request

app = ServerApp()


@app.main()
def main(grid, context):
    hospitals = GridHospitals(grid, ExchangeTerms("agreed", context.run_config["sites"], 0.3, 120.0))
    hospitals.join()
    x = np.array([[1.0, 2.0 ** -50, -0.0]])
    replies = list(hospitals.ask(Request("double", {"x": x}, {}, {"x": ArraySpec((1, 3))})))
    found = {
        "weights": hospitals.weights,
        "replies": {reply.site: reply.arrays["x"].tobytes().hex() for reply in replies},
        "failures": [[one.site, one.code, one.text] for one in hospitals.failures],
        "seconds": [row["seconds"] for row in hospitals.history],
    }
    Path(context.run_config["out"]).write_text(json.dumps(found))
"""


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))  # the toy's bundle does not hold medtl_core
    folder = tmp_path / "toy-app"
    (folder / "toy").mkdir(parents=True)
    for name, text in {
        "pyproject.toml": PROJECT,
        "toy/__init__.py": "",
        "toy/client.py": CLIENT,
        "toy/server.py": SERVER,
    }.items():
        (folder / name).write_text(textwrap.dedent(text), encoding="utf-8")
    return folder


def check(out: Path, home: Path) -> list[list[str]]:
    found = json.loads(out.read_text(encoding="utf-8"))
    assert list(found["replies"]) == ["h0"]
    assert bytes.fromhex(found["replies"]["h0"]) == struct.pack("<3d", 2.0, 2.0**-49, -0.0)
    assert not marked(home)
    first, *more = sorted(found["failures"])
    assert first == ["h1", "error", "DataError: the site's data could not be used; its own log names the file or row"]
    return more


def test_a_deployment_names_its_failing_hospital_and_runs_that_fail_or_take_too_long_are_errors(
    app: Path, tmp_path: Path
) -> None:
    out, home = tmp_path / "out.json", tmp_path / "home"
    with Deployment([{"partition-id": 0}, {"partition-id": 1}], home=home) as deployment:
        assert deployment.run(app, {"out": str(out), "sites": 2}, timeout=200) == "finished:completed"
        with pytest.raises(RunError, match="finished:failed") as caught:
            deployment.run(app, {"out": str(tmp_path / "no such folder" / "out"), "sites": 2}, timeout=200)
        assert "no such folder" in str(caught.value)
        with pytest.raises(RunError, match=r"did not start the run \(exit code 1\)"):
            deployment.run(app, {"no-such-setting": 1}, timeout=200)
        with pytest.raises(RunError, match="did not end in time"):
            deployment.run(app, {"sites": 3}, timeout=5)
    assert check(out, home) == []


@pytest.mark.slow  # Ray's words for an exception are read in test_faults.py, the road is taken in tests/test_parity.py
def test_flwr_run_names_its_failing_and_its_lying_hospital(app: Path, tmp_path: Path) -> None:
    out, home = tmp_path / "out.json", tmp_path / "home"
    assert flwr_run(app, {"out": str(out)}, nodes=3, home=home, timeout=200) == "finished:completed"
    assert [failure[:2] for failure in check(out, home)] == [["h2", "weight"]]
