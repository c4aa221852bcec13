"""Maps of where an answer comes from: they add up to the logit, turn with the picture, and are lost with the head."""

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from medtl_core.cli import app as cli
from medtl_core.config import settings
from medtl_core.data.images import decode
from medtl_core.errors import ConfigError
from medtl_core.features.dataset import Material
from medtl_core.features.spec import feature_facts, feature_spec
from medtl_core.predict import load
from medtl_core.predict.attribution import Attributor
from medtl_core.predict.cases import unlabelled
from medtl_core.predict.saved import save_head
from medtl_core.values import Array, Examples, Head, Task
from tests.predict.heads import CLASSES, film, made, made_for

pytestmark = pytest.mark.usefixtures("one_torch_thread")


@pytest.mark.parametrize(
    ("features", "views"),
    [
        ("rich", ("identity", "flip-h", "flip-v", "transpose")),
        *(
            pytest.param(features, views, marks=pytest.mark.slow)
            for features, views in (("plain", ("identity",)), ("4", ("identity", "flip-h")), ("rich", ("identity",)))
        ),
    ],
)
def test_the_parts_add_up_to_the_logit(tmp_path: Path, features: str, views: tuple[str, ...]) -> None:
    predictor, path = made(tmp_path, features=features, views=views), film(tmp_path).path
    cases = predictor.cases([path]).examples
    logits = predictor.classifier.logits(Material(cases, predictor.settings, predictor.views).features().values)[0]
    for place, name in enumerate(CLASSES):
        (one,) = predictor.attributor().explain(path, name)
        others = np.delete(logits, place).mean()
        assert one.parts.sum() == pytest.approx(logits[place] - others, abs=1e-3)


@pytest.mark.parametrize("backbone", ["lite0", "lite0+gabor"])
def test_several_readings_add_up_too(tmp_path: Path, backbone: str) -> None:
    chosen = settings({"backbone": backbone, "image-size": "64+96", "cache": "off"})
    predictor, path = made_for(tmp_path, chosen, ()), film(tmp_path).path
    values = Material(predictor.cases([path]).examples, predictor.settings, predictor.views).features().values
    logits = predictor.classifier.logits(values)[0]
    (one,) = predictor.attributor().explain(path, "normal")
    assert one.parts.shape == (96, 96)
    assert one.parts.sum() == pytest.approx(logits[0] - logits[1:].mean(), abs=1e-3 * np.abs(one.parts).sum())


def test_a_mirrored_picture_has_a_mirrored_map_where_the_views_are_both(tmp_path: Path) -> None:
    attributor = made(tmp_path, views=("identity", "flip-h")).attributor()
    pixels = decode(film(tmp_path, size=64).path)
    (one,), (other,) = attributor.explain(pixels, "normal"), attributor.explain(pixels[:, ::-1].copy(), "normal")
    np.testing.assert_allclose(one.parts[:, ::-1], other.parts, atol=1e-4 * np.abs(one.parts).max())


def test_beyond_own_cases_the_parts_add_up_to_what_the_logits_differ_by(tmp_path: Path) -> None:
    predictor, place = made(tmp_path, views=("identity", "flip-h"), scale=0.1), film(tmp_path).path
    own = [decode(film(tmp_path, number, size=64).path) for number in range(1, 7)]
    label = np.array([0, 1, 0, 2, 1, 2])
    cases = unlabelled({"image": np.stack(own)})
    labelled = Examples({**cases.columns, "label": label}, Task("t", CLASSES))
    attributor = predictor.attributor()
    assert isinstance(attributor, Attributor)
    (one,) = attributor.against(labelled).explain(place, "normal")

    def logits(examples: Examples) -> Array:
        return predictor.classifier.logits(Material(examples, predictor.settings, predictor.views).features().values)

    (mine,), others = logits(predictor.cases([place]).examples), logits(labelled)
    usual = [(others[label == other][:, 0] - others[label == other][:, other]).mean() for other in (1, 2)]
    assert one.parts.sum() == pytest.approx(mine[0] - mine[1:].mean() - np.mean(usual), abs=1e-3)
    assert one.deviations is not None and one.deviations.shape == one.parts.shape
    assert one.strength is one.deviations
    assert one.shown().shape == (64, 64, 3)


def test_maps_count_from_own_cases_where_they_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    made(tmp_path / "head", features="plain")
    for number in range(4):
        (tmp_path / "own" / CLASSES[number % 2]).mkdir(parents=True, exist_ok=True)
        film(tmp_path / "own" / CLASSES[number % 2], number, size=64)
    words = ["predict", str(tmp_path / "head" / "made"), str(film(tmp_path).path), "--maps", str(tmp_path / "alone")]
    assert CliRunner().invoke(cli.app, words).exit_code == 0
    words = [*words[:-1], str(tmp_path / "beyond"), "--alike", str(tmp_path / "own")]
    assert CliRunner().invoke(cli.app, words).exit_code == 0
    first, second = (next((tmp_path / name).iterdir()).read_bytes() for name in ("alone", "beyond"))
    assert first != second


def test_a_map_is_lost_where_the_head_is_shuffled(tmp_path: Path) -> None:
    alike = made(tmp_path).attributor().likeness(film(tmp_path).path, "normal", rng=np.random.default_rng(0))
    assert 0 <= alike < 0.7


def test_the_command_writes_a_picture_a_case_and_nothing_over_another(tmp_path: Path) -> None:
    made(tmp_path / "head")
    place = film(tmp_path).path
    words = ["predict", str(tmp_path / "head" / "made"), str(place), "--maps", str(tmp_path / "maps")]
    assert CliRunner().invoke(cli.app, words).exit_code == 0
    (shown,) = (tmp_path / "maps").iterdir()
    with Image.open(shown) as picture:
        assert picture.size == (64, 64)
        assert np.ptp(np.asarray(picture), axis=2).max() > 50
    assert CliRunner().invoke(cli.app, words).exit_code == 1


def test_a_table_has_no_map(tmp_path: Path) -> None:
    chosen = settings({"backbone": "table"})
    spec = feature_spec(chosen, (), ("a",))
    facts = {"features": {**feature_facts(chosen, ()), "columns": ["a"]}}
    head = Head(np.zeros((3, 2)), np.zeros(3), "made", CLASSES, spec.fingerprint, facts)
    with pytest.raises(ConfigError, match="images"):
        load(save_head(head, tmp_path, "made")).attributor()
