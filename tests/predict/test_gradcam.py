"""Maps of tuned backbones: Grad-CAM as captum has it, refused where there are none, with a warning where needed."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from medtl_core.backbones.taps import pooling_of
from medtl_core.cli import app as cli
from medtl_core.config import settings
from medtl_core.data.images import decode
from medtl_core.data.views import normalised, views_of
from medtl_core.errors import ConfigError
from medtl_core.features.dataset import Material
from medtl_core.features.spec import backbone_spec, feature_facts
from medtl_core.methods.finetune.adapters import find_adapter
from medtl_core.methods.finetune.model import Tuned
from medtl_core.methods.finetune.split_backbone import open_backbone
from medtl_core.predict import Predictor, load
from medtl_core.predict.cases import unlabelled
from medtl_core.predict.saved import save_model
from tests.predict.heads import CLASSES, film

pytestmark = pytest.mark.usefixtures("one_torch_thread")
VIEWS = ("identity", "flip-h")


def tuned(
    folder: Path, adapter: str = "finetune", scope: str = "last", features: str = "2+4", **changes: str
) -> Predictor:
    """A model whose head is drawn at random, and whose trained part has moved a little."""
    chosen = settings({"features": features, "image-size": "64", "cache": "off", **changes})
    spec, dice = backbone_spec(chosen, VIEWS), np.random.default_rng(3)
    start = find_adapter(adapter, open_backbone(chosen, VIEWS, scope)).start
    moved = {
        name: array + dice.normal(scale=0.01, size=array.shape).astype(np.float32) for name, array in start.items()
    }
    facts = {"features": {**feature_facts(chosen, VIEWS), "columns": [], "modality": "chest X-ray"}}
    head = np.column_stack([dice.normal(size=(3, spec.width)), np.zeros(3)])
    model = Tuned(CLASSES, spec.fingerprint, head, moved, adapter, scope, facts)
    save_model(model.pack(), model.kind, folder, "tuned")
    return load(folder / "tuned", device="cpu")


def oracle(predictor: Predictor) -> tuple[torch.nn.Module, Callable[[torch.Tensor], torch.Tensor]]:
    """The deepest tap, and the contrast of the first class from pixels, of the whole network with what was trained."""
    model = predictor.classifier
    assert isinstance(model, Tuned)
    backbone = open_backbone(predictor.settings, VIEWS, model.scope)
    network, rows = deepcopy(backbone.network), dict[str, torch.Tensor]()
    given = {name: torch.tensor(array) for name, array in model.trained.items()}
    for name, tensor in find_adapter(model.adapter, backbone).effective(given).items():
        network.get_parameter(name).data = tensor
    layers = {tap: network.get_submodule(path) for tap, path in backbone.order.taps.items()}
    for tap, layer in layers.items():
        pool = pooling_of(network, tap, backbone.spec.pooling, 1e-12)
        layer.register_forward_hook(lambda m, i, output, tap=tap, pool=pool: rows.__setitem__(tap, pool(output)))
    weight = torch.tensor(model.head[:, :-1], dtype=torch.float32)

    def contrast(pixels: torch.Tensor) -> torch.Tensor:
        network(pixels)
        logits = torch.cat([rows[tap] for tap in backbone.spec.taps], dim=1) @ weight.T
        return logits[:, 0] - logits[:, 1:].mean(dim=1)

    return layers[backbone.spec.taps[-1]], contrast


@pytest.mark.parametrize(("adapter", "scope"), [("finetune", "last"), ("lora", "last2"), ("finetune", "all")])
def test_maps_are_captum_s(tmp_path: Path, adapter: str, scope: str) -> None:
    gradcam = pytest.importorskip("captum.attr", reason="captum is not installed").LayerGradCam
    predictor = tuned(tmp_path, adapter, scope)
    spec, pixels = backbone_spec(predictor.settings, VIEWS), decode(film(tmp_path, size=64).path)
    material = Material(unlabelled({"image": pixels[None]}), predictor.settings, VIEWS)
    assert isinstance(predictor.classifier, Tuned)
    (maps,) = predictor.classifier.class_maps(material, np.array([1.0, -0.5, -0.5]))

    layer, contrast = oracle(predictor)
    read = normalised(torch.from_numpy(views_of(pixels, 64, VIEWS)), spec.mean, spec.std).requires_grad_()
    expected = gradcam(contrast, layer).attribute(read, relu_attributions=True)[:, 0].detach().numpy()
    assert expected.max() > 0
    np.testing.assert_allclose(maps, expected, atol=1e-6 * expected.max(), rtol=1e-6)


def test_the_command_draws_them_and_the_page_of_a_program_may_too(tmp_path: Path) -> None:
    predictor, place = tuned(tmp_path / "head"), film(tmp_path).path
    words = ["predict", str(tmp_path / "head" / "tuned"), str(place), "--maps", str(tmp_path / "maps")]
    ended = CliRunner().invoke(cli.app, words)
    assert ended.exit_code == 0, ended.output
    (shown,) = (tmp_path / "maps").iterdir()
    with Image.open(shown) as picture:
        assert picture.size == (64, 64)
    (one,) = predictor.attributor().explain(place, "normal")
    assert one.parts.min() > -0.2 * one.parts.max()  # what speaks against is cut off; smooth edges ring a little


def test_a_head_that_learnt_nothing_is_warned_of(tmp_path: Path) -> None:
    predictor = tuned(tmp_path / "head")
    model = predictor.classifier
    assert isinstance(model, Tuned)
    save_model(replace(model, head=np.ones_like(model.head) * [[1], [0], [0]]).pack(), "tuned", tmp_path, "same")
    words = ["predict", str(tmp_path / "same"), str(film(tmp_path).path), "--maps", str(tmp_path / "maps")]
    ended = CliRunner().invoke(cli.app, words)
    assert ended.exit_code == 0 and "warning" in ended.stderr
    rng = np.random.default_rng(0)
    assert predictor.attributor().likeness(film(tmp_path).path, "normal", rng=rng) < 0.7


def test_a_transformer_gives_no_maps(tmp_path: Path) -> None:
    predictor = tuned(tmp_path, features="blocks.1", backbone="random:timm:test_vit", **{"image-size": "160"})
    with pytest.raises(ConfigError, match="--occlusion"):
        predictor.attributor().explain(film(tmp_path).path, "normal")
