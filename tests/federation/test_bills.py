"""What a method is billed is what it would have cost alone, whoever runs beside it."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from client.app import app as client_app
from medtl_core.config import Settings, settings
from medtl_core.evaluation.result import Cost
from medtl_core.federation.outcome import Share
from medtl_core.federation.registry import find_method, read_methods
from medtl_core.federation.study import Study
from medtl_core.flower.grid import run_local
from server.app import app as server_app
from simulations.memory import MemoryHospitals
from tests.memory import PROBLEM

NAMES = (
    "fedavg-2", "fedavg-20-adjusted", "scaffold-3", "fedlogit-2", "ridge", "discriminant", "logistic-5", "auto",
    "metric", "ensemble-stacked", "scaled-auto",
)  # fmt: skip
OTHERS = "fedavg-5,fedavg-22,logistic-3,scaffold-5,fedlogit-4,nearest-mean,auto,ensemble-stacked"


def billed(hospitals: MemoryHospitals, methods: str, name: str) -> tuple[Cost, MemoryHospitals]:
    """A method's bill beside others, and who was asked for it."""
    hospitals = MemoryHospitals(list(hospitals.sites.values()))
    study = Study(hospitals, PROBLEM, Settings(local_epochs=1), read_methods(methods))
    bills = {other: study.outcome(find_method(other)).bill for other in study.names}
    shares = bills[name].items()
    costs = [share.of(hospitals.costs[phase], len(hospitals.sites)) for phase, share in shares]
    return sum(costs, start=Cost()), hospitals


@pytest.mark.parametrize("name", NAMES)
def test_neighbours_do_not_change_a_bill(hospitals: MemoryHospitals, name: str) -> None:
    (alone, asked), (beside, _) = billed(hospitals, name, name), billed(hospitals, f"{OTHERS},{name}", name)
    assert (alone.bytes_up, alone.bytes_down, alone.rounds) == (beside.bytes_up, beside.bytes_down, beside.rounds)
    whole = sum(asked.costs.values(), start=Cost())  # and alone a method is billed everything
    assert (alone.bytes_up, alone.bytes_down, alone.rounds) == (whole.bytes_up, whole.bytes_down, whole.rounds)


def test_a_share_by_hand() -> None:
    share = replace(Share.among(2, 6, up=10, down=100), rounds=0.5)  # 2 of 6 heads, for 4 of 8 rounds, 5 hospitals
    cost = share.of(Cost(8 * 5 * 67, 8 * 5 * 650, 8, 12.0, 4.0), 5)
    assert cost == Cost(4 * 5 * 27, 4 * 5 * 250, 4, 4.0, 2.0)


def test_on_the_wire_too(tmp_path: Path) -> None:
    """With headers, settings and the evaluation at the hospitals."""
    values = {
        "data": "phantom", "sites": 2, "shots": 12, "image-size": 32, "features": "4", "bootstrap": 20,
        "local-epochs": 1, "test": "sites", "cache": str(tmp_path / "cache"),
    }  # fmt: skip
    names = ("fedavg-3", "discriminant")
    bills = []
    for methods in (*names, ",".join([*names, "auto"])):
        out = tmp_path / methods
        chosen = settings({**values, "methods": methods, "out": str(out)})
        nodes = [{"partition-id": part, "num-partitions": 2} for part in range(2)]
        run_local(server_app, client_app, node_configs=nodes, run_config=chosen.public(), workers=1)
        rows = json.loads((out / "result.json").read_text(encoding="utf-8"))["methods"]
        keys = ("bytes_up", "bytes_down", "rounds")
        bills.append({name: [row["cost"][key] for key in keys] for name, row in rows.items()})
    for name, alone in zip(names, bills, strict=False):
        assert bills[-1][name] == pytest.approx(alone[name], abs=2)  # a mean over hospitals, rounded
