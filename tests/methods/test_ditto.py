"""Ditto: the federated head is FedAvg's to the byte, and the personal one solves the pulled problem."""

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from medtl_core.config import Settings
from medtl_core.federation.registry import find_method
from medtl_core.methods.personal import ditto
from tests.methods.personal_sites import ask, finished, last_asked, message, with_state


def test_the_federated_head_is_fedavgs_to_the_byte(tmp_path: Path) -> None:
    made = finished(tmp_path, "ditto-3,fedavg-3", Settings(test="sites"))
    sent = last_asked(made, "ditto_finish").arrays["head"]
    head = made.outcome(find_method("fedavg-3")).heads[""]
    mean, scale = (made.moments.mean, made.moments.scale)
    weight = sent[:, :-1] / scale
    np.testing.assert_allclose(weight, head.weight, rtol=1e-6)
    np.testing.assert_allclose(sent[:, -1] - weight @ mean, head.bias, rtol=1e-4, atol=1e-6)


def test_the_pull_is_the_gradient_of_half_its_square(tmp_path: Path) -> None:
    request, heads = message("ditto-2", "_round"), []
    step = {"epochs": 1, "batch-size": 64, "learning-rate": 0.01, "weight-decay": 0.05}
    for number, pull in enumerate((0.0, 0.4)):
        site = with_state(tmp_path / str(number))[0]
        ask(site, request, **step, round=1)  # leaves a head of its own
        first = load_file(tmp_path / str(number) / "a" / "ditto-2.round-1.safetensors")["head"]
        ask(site, request, **step, round=2, pull=pull)
        heads.append(load_file(tmp_path / str(number) / "a" / "ditto-2.round-2.safetensors")["head"])
    np.testing.assert_allclose(heads[1], heads[0] - 0.01 * 0.4 * (first - request.arrays["head"]), atol=1e-12)


def test_a_strong_pull_holds_the_personal_head_at_the_federated_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    distances = []
    for pull in (0.1, 1.0, 10.0):
        monkeypatch.setattr(ditto, "PULL", pull)
        made = finished(tmp_path, "ditto-5")
        kept = load_file(tmp_path / "a" / "ditto-5.round-5.safetensors")["head"]
        distances.append(float(np.linalg.norm(kept - last_asked(made, "ditto_finish").arrays["head"])))
    assert distances[0] > distances[1] > distances[2]
