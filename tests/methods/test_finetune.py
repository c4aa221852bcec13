"""The methods over hospitals in memory: what travels, what starts where, and the model that comes out."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from client.app import app as client_app
from medtl_core.config import Settings
from medtl_core.config import settings as app_settings
from medtl_core.errors import ConfigError, DataError, RunError, WeightsError
from medtl_core.federation.method import Method
from medtl_core.federation.registry import find_method
from medtl_core.federation.study import Study
from medtl_core.flower.grid import run_local
from medtl_core.methods.finetune.finetune import FineTune
from medtl_core.methods.finetune.model import Tuned
from medtl_core.values import Head
from server.app import app as server_app
from simulations.memory import MemoryHospitals
from tests.methods.pictures import SETTINGS, make_study, material


def tunes(study: Study) -> list[dict[str, object]]:
    assert isinstance(study.hospitals, MemoryHospitals)
    return [dict(request.config) for request in study.hospitals.asked if request.task == "tune"]


def tuned(study: Study, method: Method | None = None) -> Tuned:
    model = study.outcome(method or study.methods[0]).heads[""]
    assert isinstance(model, Tuned)
    return model


def test_names_say_scope_and_rounds_and_suggest_the_nearest() -> None:
    method = find_method("finetune-last2-5")
    assert isinstance(method, FineTune)
    assert (method.scope, method.rounds) == ("last2", 5)
    for name in ("lpft-head-3", "lora-all-2", "lpft-last12-1", "finetune-head-1"):
        assert find_method(name).name == name
    for name, near in (("lora-head-5", "lora-last-5"), ("finetune-lst-5", "finetune-last-5")):
        with pytest.raises(ConfigError, match=f"did you mean '{near}'"):
            find_method(name)


@pytest.mark.parametrize("name", ["lpft-last-1", "lora-last-1", "lpft-head-1"])
def test_a_warm_start_that_hardly_moves_is_the_discriminant(name: str) -> None:
    study = make_study("discriminant", name, settings=SETTINGS.replace(tune_rate=1e-7))
    solved, warm = (study.outcome(method).heads[""] for method in study.methods)
    images, values = material(6), make_study("local").hospitals.sites["h0"].values[:6]  # type: ignore[attr-defined]
    np.testing.assert_allclose(warm.logits(values, images), solved.logits(values), rtol=1e-3, atol=1e-3)


def test_rounds_of_one_variant_share_a_course() -> None:
    study = make_study("finetune-head-1", "finetune-head-3", "lpft-head-3")
    outcomes = [study.outcome(method) for method in study.methods]
    assert [config["scope"] for config in tunes(study)] == 6 * ["head"]
    share = outcomes[0].bill["tune-finetune-head"]
    assert (share.rounds, share.work) == pytest.approx((1 / 3, 1 / 3))
    assert "statistics" in outcomes[2].bill and "statistics" not in outcomes[1].bill
    alone = make_study("finetune-head-1")
    first, same = (one.heads[""] for one in (outcomes[0], alone.outcome(alone.methods[0])))
    assert isinstance(first, Head) and isinstance(same, Head)
    assert first.weight.tobytes() == same.weight.tobytes() and first.weight.shape == (3, 120)


@pytest.mark.slow
def test_a_transformer_learns_through_lora_on_its_linear_layers() -> None:
    settings = Settings(
        backbone="random:timm:test_vit", features="blocks.1", image_size=160, cache="off", views="one", tune_epochs=2
    )
    model = tuned(make_study("lora-last-1", settings=settings, sites=(3, 3)))
    assert set(model.trained) == {f"blocks.1.{layer}.lora" for layer in ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")}
    assert all(np.abs(array).max() > 0 for array in model.trained.values())


def test_a_tuned_model_needs_images_of_its_own_features() -> None:
    model, values = tuned(make_study("lpft-last-1")), np.zeros((1, 120))
    with pytest.raises(DataError, match="reads images"):
        model.logits(values)
    with pytest.raises(WeightsError, match="tuned from features"):
        model.logits(values, material(1, SETTINGS.replace(image_size=40)))
    with pytest.raises(WeightsError, match="not those of 'lora' in scope 'last'"):
        replace(model, adapter="lora").logits(values, material(1))
    with pytest.raises(WeightsError, match="do not fit"):
        Tuned.unpack(replace(model.pack(), config={"adapter": "lorra", "scope": "last"}))
    diverged = {name: np.full_like(array, np.nan) for name, array in model.trained.items()}
    with pytest.raises(DataError, match="not finite"):
        replace(model, trained=diverged).logits(values, material(1))


def test_hospitals_whose_training_diverges_are_named_and_sit_out(tmp_path: Path) -> None:
    values = {
        "sites": 2, "shots": 6, "image-size": 32, "features": "4", "cache": str(tmp_path), "methods": "finetune-last-1",
        "tune-rate": 1e30, "bootstrap": 1,
    }  # fmt: skip
    nodes = [{"partition-id": part, "num-partitions": 2} for part in range(2)]
    with pytest.raises(RunError, match=r"0 of 2 .* DivergedError: the site's training diverged .* lower tune-rate"):
        run_local(server_app, client_app, node_configs=nodes, run_config=app_settings(values).public(), workers=1)
