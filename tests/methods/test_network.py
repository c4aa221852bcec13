"""The small network: its gradient step by hand, what it keeps fixed, and that it travels whole."""

import numpy as np
import pytest
import torch

from medtl_core.config import Settings
from medtl_core.errors import DataError, WeightsError
from medtl_core.federation.model import Packed
from medtl_core.federation.outcome import Problem
from medtl_core.federation.registry import find_method, read_methods, unpack
from medtl_core.federation.study import Study
from medtl_core.methods.network import BODY, HEAD, NAMES, Network, Recipe, fit, forward, initial
from medtl_core.values import ABSENT
from tests.memory import DirectHospitals

PROBLEM = Problem(("x", "y", "z"), "features", (("4", 0, 6),))
INPUTS = np.random.default_rng(1).standard_normal((12, 4)).astype(np.float32)
LABEL = np.arange(12) % 3


def start() -> dict[str, np.ndarray]:
    arrays = initial(4, 3, rng=np.random.default_rng(0), hidden=5)
    arrays["head.weight"] = np.random.default_rng(2).standard_normal((3, 5)).astype(np.float32)
    return arrays


def test_one_full_batch_step_is_autograds_step() -> None:
    arrays, recipe = start(), Recipe(epochs=1, batch_size=100, learning_rate=0.1, weight_decay=0.01)
    done = fit(arrays, INPUTS, LABEL, recipe, rng=np.random.default_rng(3))
    tensors = {name: torch.tensor(array, requires_grad=True) for name, array in arrays.items()}
    loss = torch.nn.functional.cross_entropy(forward(tensors, torch.from_numpy(INPUTS)), torch.from_numpy(LABEL))
    loss.backward()
    for name in NAMES:
        expected = tensors[name].detach() - 0.1 * (tensors[name].grad + 0.01 * tensors[name].detach())
        np.testing.assert_allclose(done.arrays[name], expected.numpy(), atol=1e-6)
    assert done.loss_before == pytest.approx(float(loss.detach()), abs=1e-6)


@pytest.mark.parametrize(("train", "kept"), [(HEAD, BODY), (BODY, HEAD)])
def test_only_what_is_named_is_trained(train: tuple[str, ...], kept: tuple[str, ...]) -> None:
    arrays = start()
    done = fit(arrays, INPUTS, LABEL, Recipe(), rng=np.random.default_rng(3), train=train)
    for name in kept:
        assert done.arrays[name].tobytes() == arrays[name].tobytes()
    assert all((done.arrays[name] != arrays[name]).any() for name in train)


def test_training_lowers_the_loss_and_depends_on_the_seed_only() -> None:
    first, second = (fit(start(), INPUTS, LABEL, Recipe(20), rng=np.random.default_rng(3)) for _ in range(2))
    assert first.loss_after < first.loss_before
    assert first.arrays["body.weight"].tobytes() == second.arrays["body.weight"].tobytes()


def test_divergence_is_named() -> None:
    with pytest.raises(DataError, match="diverged"):
        fit(start(), 1e3 * INPUTS, LABEL, Recipe(5, 4, 1e8), rng=np.random.default_rng(3))


def test_the_method_learns_and_its_model_travels_whole(hospitals: DirectHospitals) -> None:
    study = Study(hospitals, PROBLEM, Settings(), read_methods("network-10"))
    model = study.outcome(find_method("network-10")).heads[""]
    assert isinstance(model, Network)
    values = np.concatenate([site.values for site in hospitals.sites.values()])
    label = np.concatenate([site.label for site in hospitals.sites.values()])
    assert (model.logits(values).argmax(1) == label).mean() > 0.8
    again = unpack("network", model.pack())
    np.testing.assert_array_equal(again.logits(values), model.logits(values))


def test_numpy_and_torch_agree() -> None:
    arrays = start()
    mean, scale = np.zeros(4, np.float32), np.ones(4, np.float32)
    model = Network({**arrays, "mean": mean, "scale": scale}, np.array([True, False, True]), ("x", "y", "z"), "f")
    tensors = {name: torch.tensor(array) for name, array in arrays.items()}
    expected = forward(tensors, torch.from_numpy(INPUTS)).numpy()
    np.testing.assert_allclose(model.logits(INPUTS)[:, [0, 2]], expected[:, [0, 2]], atol=1e-5)
    assert (model.logits(INPUTS)[:, 1] == ABSENT).all()


def test_a_damaged_network_is_refused() -> None:
    mean = np.zeros(4, np.float32)
    whole = Network({**start(), "mean": mean, "scale": mean + 1}, np.ones(3, bool), ("x", "y", "z"), "f").pack()
    missing = {name: array for name, array in whole.arrays.items() if name != "body.bias"}
    with pytest.raises(WeightsError, match="do not fit"):
        Network.unpack(Packed(missing, {}, whole.classes, "f"))
    with pytest.raises(WeightsError, match="do not fit"):
        Network.unpack(Packed(whole.arrays, {}, ("x", "y"), "f"))
    with pytest.raises(WeightsError, match="no model is of kind"):
        unpack("netwrok", whole)
