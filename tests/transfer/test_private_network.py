"""Private training of a torch network: its sums, its descent without noise, its model, and the real apps."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from client.app import app as client_app
from medtl_core.calibrate import log_prior
from medtl_core.config import settings
from medtl_core.errors import PrivacyError, WeightsError
from medtl_core.flower.grid import run_local
from medtl_core.heads.linear import softmax
from medtl_core.methods.model import Packed
from medtl_core.privacy.patients import unit
from medtl_core.registry import find_method, unpack
from medtl_core.transfer.network import BODY, HEAD
from medtl_core.transfer.noisy_gradient import RATE
from medtl_core.transfer.private_network import PrivateNetwork, RowNetwork, names_of, network_of, private_network
from medtl_core.transfer.public import PublicMap
from server.app import app as server_app
from tests.memory import make_site
from tests.transfer.exact_hospitals import exact_study

IDENTITY = {"mean": np.zeros(6), "scale": np.ones(6), "basis": np.eye(6)}


def test_with_a_linear_head_the_sum_is_the_closed_form_with_a_bias() -> None:
    site, rng = make_site("a", 12), np.random.default_rng(0)
    head = {"head.weight": rng.standard_normal((3, 6)), "head.bias": rng.standard_normal(3)}
    found = private_network(site, {**IDENTITY, **head}, {}).update.arrays["gradient"]
    rows = unit(site.values.astype(np.float64))
    residual = softmax(rows @ head["head.weight"].T + head["head.bias"]) - np.eye(3)[site.label]
    length = np.linalg.norm(residual, axis=1) * np.sqrt((rows**2).sum(axis=1) + 1)
    residual *= np.minimum(1, 1 / length)[:, None]
    np.testing.assert_allclose(found, [*(residual.T @ rows).ravel(), *residual.sum(axis=0)], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("name", "rounds"), [("private-network-6", 6), ("private-network-6-hidden", 6)])
def test_without_noise_it_learns(name: str, rounds: int) -> None:
    study = exact_study(name)
    outcome = study.outcome(find_method(name))
    sites = study.hospitals.sites.values()  # type: ignore[attr-defined]
    values, label = (np.concatenate([getattr(site, part) for site in sites]) for part in ("test_values", "test_label"))
    assert float((outcome.heads[""].logits(values).argmax(axis=1) == label).mean()) > 0.8
    tasks = [request.task for request in study.hospitals.asked]  # type: ignore[attr-defined]
    assert tasks == ["private_counts"] + rounds * ["private_network"]
    assert set(outcome.bill) == {f"{name}:private_counts", f"{name}:private_network"}


def test_one_round_from_a_zero_head_by_hand() -> None:
    study = exact_study("private-network-1", cases=40)
    model = study.outcome(find_method("private-network-1")).heads[""]
    assert isinstance(model, RowNetwork)
    slope = sum(
        private_network(
            site, {**IDENTITY, "head.weight": np.zeros((3, 6)), "head.bias": np.zeros(3)}, {}
        ).update.arrays["gradient"]
        for site in study.hospitals.sites.values()  # type: ignore[attr-defined]
    )
    counts = np.sum([np.bincount(site.label, minlength=3) for site in study.hospitals.sites.values()], axis=0)  # type: ignore[attr-defined]
    # the divisor is the noisy number of patients, 120, where that is more than the public 60
    np.testing.assert_allclose(model.arrays["head.weight"].ravel(), -RATE * slope[:18] / 120, rtol=1e-9)
    np.testing.assert_allclose(model.arrays["head.bias"], -RATE * slope[18:] / 120 - log_prior(counts * 1.0), rtol=1e-9)


def test_the_start_is_public_and_the_same_for_everyone_of_one_seed() -> None:
    method = find_method("private-network-2-hidden")
    assert isinstance(method, PrivateNetwork) and method.hidden and method.rounds == 2
    one, two, other = (method.start(6, 3, seed) for seed in (0, 0, 1))
    assert all(one[name].tobytes() == two[name].tobytes() for name in one)
    assert one["body.weight"].tobytes() != other["body.weight"].tobytes()
    assert names_of(one) == ("body.weight", "body.bias", "head.weight", "head.bias")
    assert not find_method("private-network-2").hidden  # type: ignore[attr-defined]


def made(hidden: bool) -> RowNetwork:
    rng = np.random.default_rng(1)
    method = PrivateNetwork("private-network-1", 1, hidden)
    arrays = {name: rng.standard_normal(array.shape) for name, array in method.start(4, 3, 0).items()}
    map_ = PublicMap(rng.standard_normal(5), rng.uniform(0.5, 2, 5), rng.standard_normal((5, 4)))
    return RowNetwork(map_, arrays, ("a", "b", "c"), "print", {"epsilon": 4.0})


@pytest.mark.parametrize("hidden", [False, True])
def test_the_model_is_the_torch_network_and_travels_whole(hidden: bool) -> None:
    import torch

    model, values = made(hidden), np.random.default_rng(2).standard_normal((7, 5))
    with torch.no_grad():
        expected = network_of(model.arrays)(torch.from_numpy(model.map.rows(values))).numpy()
    np.testing.assert_allclose(model.logits(values), expected, rtol=1e-12)
    again = unpack("row-network", model.pack())
    assert again.logits(values).tobytes() == model.logits(values).tobytes()
    assert (again.classes, again.fingerprint, again.facts) == (model.classes, model.fingerprint, model.facts)


@pytest.mark.parametrize(
    ("name", "shape"),
    [("mean", (4,)), ("scale", (6,)), ("basis", (5, 3)), ("head.weight", (3, 9)), ("head.bias", (2,)),
     ("body.weight", (16, 5)), ("body.bias", (15,))],
)  # fmt: skip
def test_arrays_that_do_not_fit_are_refused(name: str, shape: tuple[int, ...]) -> None:
    packed = made(True).pack()
    with pytest.raises(WeightsError, match="do not fit"):
        RowNetwork.unpack(replace(packed, arrays={**packed.arrays, name: np.zeros(shape)}))


def test_half_a_body_and_other_classes_are_refused() -> None:
    packed = made(True).pack()
    half = {name: array for name, array in packed.arrays.items() if name != BODY[0]}
    for arrays in (half, {}, {name: packed.arrays[name] for name in HEAD}):
        with pytest.raises(WeightsError, match="a row network holds"):
            RowNetwork.unpack(Packed(arrays, {}, ("a", "b", "c"), ""))
    with pytest.raises(WeightsError, match="its classes"):
        RowNetwork.unpack(replace(packed, classes=("a", "b")))


def test_one_patient_takes_no_part() -> None:
    site = make_site("a", 3)
    site.patients[:] = "a-0"
    head = {"head.weight": np.zeros((3, 6)), "head.bias": np.zeros(3)}
    with pytest.raises(PrivacyError, match="fewer than two patients"):
        private_network(site, {**IDENTITY, **head}, {})


@pytest.mark.parametrize(("name", "secure"), [("network-2", True), ("network-1-hidden", False)])
def test_it_runs_through_the_real_apps(tmp_path: Path, name: str, secure: bool) -> None:
    values = {
        "data": "phantom", "sites": 4, "shots": 20, "image-size": 32, "features": "4", "bootstrap": 20, "privacy": name,
        "public-cases": 4, "secure-sum": secure, "public-images": str(tmp_path / "public"), "quorum": 0.5,
        "cache": str(tmp_path / "cache"), "out": str(tmp_path / "out"), "state": str(tmp_path / "state"),
    }  # fmt: skip
    from PIL import Image

    for number in range(4):
        (tmp_path / "public" / f"c{number % 2}").mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 255, (40, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "public" / f"c{number % 2}" / f"{number}.png")
    nodes = [{"partition-id": part, "num-partitions": 4} for part in range(4)]
    run_local(server_app, client_app, node_configs=nodes, run_config=settings(values).public(), workers=1)
    result = json.loads((tmp_path / "out" / "result.json").read_text(encoding="utf-8"))
    assert result["failures"] == []
    found = result["methods"][f"private-{name}"]
    assert 0.0 <= found["figures"]["balanced_accuracy"] <= 1.0
    assert found["facts"]["epsilon"] == 4.0
