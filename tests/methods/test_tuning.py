"""One round at a hospital: against a hand-written step, and what it promises of bytes, errors and early stopping."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from medtl_core.backbones.taps import centre_weights
from medtl_core.errors import ConfigError, DataError
from medtl_core.federation.tasks import SiteData
from medtl_core.methods.balanced import log_share
from medtl_core.methods.finetune.activations import Inputs
from medtl_core.methods.finetune.adapters import find_adapter
from medtl_core.methods.finetune.client import TuningRecipe, split, tune
from medtl_core.methods.finetune.split_backbone import open_backbone
from medtl_core.methods.finetune.trainable_suffix import TrainableSuffix
from medtl_core.values import Array, Released
from tests.methods.pictures import SETTINGS, VIEWS, make_site


def start(site: SiteData, recipe: TuningRecipe, head: float = 0.0) -> dict[str, Array]:
    """What a server would send first."""
    drawn = head * np.random.default_rng(0).standard_normal((site.classes, site.values.shape[1] + 1))
    fixed = {"mean": site.values.mean(0), "scale": site.values.std(0) + 1e-3, "counts": np.array([3.0, 2.0, 1.0])}
    trained: Mapping[str, Array] = {}
    if recipe.scope != "head":
        trained = find_adapter(recipe.adapter, open_backbone(SETTINGS, VIEWS, recipe.scope)).start
    return {"head": drawn.astype(np.float32), **fixed, **trained}


def answer(site: SiteData, recipe: TuningRecipe, arrays: Mapping[str, Array], number: int = 1) -> Released:
    return tune(site, arrays, {**recipe.config(), "round": number, "of": 9})


@pytest.mark.parametrize(
    ("adapter", "scope"),
    [("lora", "last2"), *(pytest.param("finetune", scope, marks=pytest.mark.slow) for scope in ("last", "all"))],
)
def test_training_lowers_the_loss_and_answers_with_what_is_trained(adapter: str, scope: str) -> None:
    site, recipe = make_site("a", 12), TuningRecipe(adapter, scope, epochs=6, batch_size=4, rate=0.05)
    network, before = open_backbone(SETTINGS, VIEWS, scope).network, start(site, recipe)
    frozen = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    released = answer(site, recipe, before)
    assert released.metrics["loss-last"] < 0.9 * released.metrics["loss-first"]
    after = released.update.arrays
    assert after.keys() == before.keys() - {"mean", "scale", "counts"}
    for name, array in after.items():
        assert (array.shape, array.dtype.name) == (before[name].shape, "float32")
        assert not np.array_equal(array, before[name]), name
    torch.testing.assert_close(dict(network.state_dict()), frozen, rtol=0, atol=0)  # never touched


def test_one_step_is_the_step_of_plain_torch() -> None:
    chosen = SETTINGS.replace(views="one")
    site = make_site("a", 5, settings=chosen)
    recipe = TuningRecipe(scope="last", epochs=1, batch_size=8, rate=0.1, weight_decay=0.01, clip=1e9)
    arrays = start(site, recipe, 0.1)
    after = answer(site, recipe, arrays).update.arrays

    body = open_backbone(chosen, VIEWS, "last")
    block = TrainableSuffix(body)._modules["blocks.2.1"].requires_grad_()
    maps = Inputs(body, site.material).batch(range(5))[0]  # type: ignore[arg-type]
    head = torch.tensor(arrays["head"], requires_grad=True)
    out = maps
    for layer in (block.conv_pw, block.bn1, block.conv_dw, block.bn2, block.conv_pwl):
        out = layer(out)  # type: ignore[operator]
    flat = (out + maps).flatten(2)
    centre = flat @ torch.from_numpy(centre_weights(*maps.shape[2:]))
    features = torch.cat([flat.mean(2), flat.var(2, unbiased=False).sqrt(), centre], dim=1)
    standard = (features - torch.tensor(arrays["mean"])) / torch.tensor(arrays["scale"])
    logits = standard @ head[:, :-1].T + head[:, -1] + torch.tensor(log_share(arrays["counts"]), dtype=torch.float32)
    nn.functional.cross_entropy(logits, torch.tensor(site.label)).backward()
    for name, parameter, rate in [("head", head, 0.1)] + [
        (f"blocks.2.1.{key}", value, 0.01) for key, value in block.named_parameters()
    ]:
        assert parameter.grad is not None
        expected = parameter - rate * (parameter.grad + 0.01 * parameter)
        np.testing.assert_allclose(after[name], expected.detach().numpy(), rtol=1e-4, atol=1e-6, err_msg=name)


def test_the_head_alone_is_trained_on_the_agreed_features() -> None:
    site = make_site("a", 6)
    recipe = TuningRecipe(scope="head", epochs=1, batch_size=8, rate=0.1, weight_decay=0.0, clip=1e9)
    arrays = {**start(site, recipe), "counts": np.ones(3)}  # without a prior it is plain cross-entropy
    after = answer(replace(site, material=None), recipe, arrays).update.arrays
    inputs = np.concatenate([(site.values - arrays["mean"]) / arrays["scale"], np.ones((6, 1))], axis=1)
    assert list(after) == ["head"]
    np.testing.assert_allclose(after["head"], -0.1 * (1 / 3 - np.eye(3)[site.label]).T @ inputs / 6, atol=1e-5)


def test_deeper_blocks_move_less() -> None:
    site = make_site("a", 6)
    recipe = TuningRecipe(scope="last2", epochs=1, batch_size=8, rate=0.1, weight_decay=1.0, clip=1e-9)
    before = start(site, recipe)
    after = answer(site, recipe, before).update.arrays
    # the gradients are clipped away: what is left is the decay, at each tensor's own rate
    shrunk = {name: float(np.abs(after[name]).sum() / np.abs(before[name]).sum()) for name in after if name != "head"}
    assert shrunk["blocks.2.1.conv_pw.weight"] == pytest.approx(1 - 0.1 * 0.1, abs=1e-5)
    assert shrunk["blocks.2.0.conv_pw.weight"] == pytest.approx(1 - 0.1 * 0.1 / 2.6, abs=1e-5)


def test_a_hospital_without_images_and_a_wrong_recipe_are_refused() -> None:
    site, recipe = make_site("a", 3), TuningRecipe(scope="last")
    with pytest.raises(DataError, match="'a' holds features only"):
        answer(replace(site, material=None), recipe, start(site, recipe))
    for change, words in (({"loss": "class-weightd"}, "'class-weighted'"), ({"scope": "lost"}, "'lost'")):
        with pytest.raises(ConfigError, match=words):
            answer(site, TuningRecipe(**change), start(site, TuningRecipe()))  # type: ignore[arg-type]


def test_watching_is_by_patient_and_off_where_few_would_watch() -> None:
    patients = np.array([f"p{i // 2}" for i in range(160)])
    label = (np.arange(160) // 2 % 2).astype(np.int64)
    rows, watching = split(patients, label, 0)
    assert sorted([*rows, *watching]) == list(range(160))
    assert not set(patients[rows]) & set(patients[watching])
    assert len(set(patients[watching])) in (11, 12)
    assert split(patients[:100], label[:100], 0)[1].tolist() == []
    assert split(patients[:100], label[:100], 0)[0].tolist() == list(range(100))


def test_the_epoch_that_the_watching_cases_like_best_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    site, half = make_site("a", 12), (np.arange(0, 12, 2), np.arange(1, 12, 2))
    monkeypatch.setattr("medtl_core.methods.finetune.client.split", lambda patients, label, seed: half)
    bad = TuningRecipe(scope="head", epochs=3, batch_size=2, rate=50.0, clip=1e9)
    arrays = start(site, bad)
    released = answer(site, bad, arrays)
    assert released.metrics["epoch"] == 0  # every epoch made it worse: the start goes back
    np.testing.assert_array_equal(released.update.arrays["head"], arrays["head"])
    easy = replace(site, label=np.zeros(12, np.int64))  # one class: every step helps every case
    good = TuningRecipe(scope="head", epochs=3, batch_size=2, rate=0.01)
    shared = {**start(easy, good), "mean": np.zeros(120), "counts": np.ones(3)}
    assert answer(easy, good, shared).metrics["epoch"] == 3


def test_a_hospital_with_one_case_takes_part() -> None:
    site, recipe = make_site("a", 1), TuningRecipe(scope="last", epochs=2)
    arrays = {**start(site, recipe, 0.1), "scale": np.ones(120)}
    after = answer(site, recipe, arrays).update.arrays
    assert all(np.isfinite(array).all() for array in after.values())
    assert not np.array_equal(after["head"], arrays["head"])
