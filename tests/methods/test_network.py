"""The small network: its gradient step by hand, what it keeps fixed, that it travels whole, and Reptile beside it."""

from typing import Any

import numpy as np
import pytest
import torch

from medtl_core.config import Settings
from medtl_core.errors import DataError
from medtl_core.federation.registry import answer, find_method, read_methods, unpack
from medtl_core.federation.study import Study
from medtl_core.methods.models.network import HIDDEN, NAMES, Network, forward, initial
from medtl_core.rng import stream
from medtl_core.values import ABSENT
from simulations.memory import MemoryHospitals
from tests.memory import PROBLEM, make_site

SITE = make_site("a", 12)
CONFIG = {"round": 1, "of": 1, "epochs": 1, "batch-size": 100, "learning-rate": 0.1, "weight-decay": 0.01}


def sent() -> dict[str, np.ndarray]:
    """A network with nothing at zero, and moments that standardise nothing."""
    rng = np.random.default_rng(0)
    shapes = {"body.weight": (HIDDEN, 6), "body.bias": (HIDDEN,), "head.weight": (3, HIDDEN), "head.bias": (3,)}
    arrays = {name: 0.3 * rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    return {**arrays, "mean": np.zeros(6, np.float32), "scale": np.ones(6, np.float32)}


def fitted(**changes: Any) -> Any:
    return answer("fit_network", SITE, sent(), {**CONFIG, **changes})


def model_of(name: str, hospitals: MemoryHospitals | None = None) -> Network:
    hospitals = hospitals or MemoryHospitals([make_site("a", 20), make_site("b", 12)])
    study = Study(hospitals, PROBLEM, Settings(), read_methods(name))
    model = study.outcome(find_method(name)).heads[""]
    assert isinstance(model, Network)
    return model


@pytest.mark.parametrize("proximal", [0.0, 0.5])
def test_full_batch_steps_are_autograds(proximal: float) -> None:
    released = fitted(proximal=proximal, epochs=2)
    tensors = {name: torch.tensor(sent()[name], requires_grad=True) for name in NAMES}
    start = {name: tensor.detach().clone() for name, tensor in tensors.items()}
    losses = []
    for _ in range(2):
        logits = forward(tensors, torch.from_numpy(SITE.values))
        losses.append(torch.nn.functional.cross_entropy(logits, torch.from_numpy(SITE.label)))
        slopes = torch.autograd.grad(losses[-1], list(tensors.values()))
        with torch.no_grad():
            for (name, tensor), slope in zip(tensors.items(), slopes, strict=True):
                tensor -= 0.1 * (slope + 0.01 * tensor + proximal * (tensor - start[name]))
    for name in NAMES:
        np.testing.assert_allclose(released.update.arrays[name], tensors[name].detach().numpy(), atol=1e-6)
    told = [released.metrics[f"loss-{when}"] for when in ("before", "after")]
    assert told == pytest.approx([float(loss.detach()) for loss in losses], abs=1e-6)


def test_training_lowers_the_loss_and_depends_on_seed_site_and_round_only() -> None:
    first, again, other = (
        fitted(epochs=20, **{"batch-size": 4, "round": number}) for number in (1, 1, 2)
    )  # fmt: skip
    assert first.metrics["loss-after"] < first.metrics["loss-before"]
    assert first.update.arrays["body.weight"].tobytes() == again.update.arrays["body.weight"].tobytes()
    assert (first.update.arrays["body.weight"] != other.update.arrays["body.weight"]).any()


def test_divergence_is_named() -> None:
    with pytest.raises(DataError, match="diverged"):
        fitted(epochs=9, **{"learning-rate": 1e30})


def test_the_method_learns_and_its_model_travels_whole(hospitals: MemoryHospitals) -> None:
    model = model_of("network-10", hospitals)
    values = np.concatenate([site.values for site in hospitals.sites.values()])
    label = np.concatenate([site.label for site in hospitals.sites.values()])
    assert (model.logits(values).argmax(1) == label).mean() > 0.8
    again = unpack("network", model.pack())
    np.testing.assert_array_equal(again.logits(values), model.logits(values))


def test_numpy_and_torch_agree_and_an_unseen_class_is_no_answer() -> None:
    model = Network(sent(), np.array([True, False, True]), ("x", "y", "z"), "f")
    tensors = {name: torch.tensor(sent()[name]) for name in NAMES}
    expected = forward(tensors, torch.from_numpy(SITE.values)).numpy()
    np.testing.assert_allclose(model.logits(SITE.values)[:, [0, 2]], expected[:, [0, 2]], atol=1e-5)
    assert (model.logits(SITE.values)[:, 1] == ABSENT).all()


def test_reptile_goes_half_of_the_way() -> None:
    start, half, whole = (
        initial(6, 3, rng=stream(0, "network", "initial")),
        model_of("reptile-1"),
        model_of("network-1"),
    )
    for name in NAMES:
        np.testing.assert_allclose(2 * (half.arrays[name] - start[name]), whole.arrays[name] - start[name], atol=1e-6)
    assert half.facts["rate"] == 0.5
