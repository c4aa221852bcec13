"""Random Fourier features: the kernel they approximate, the pooled solution, and problems a line cannot cut."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics.pairwise import rbf_kernel

from medtl_core.config import Settings
from medtl_core.errors import ConfigError, WeightsError
from medtl_core.heads.closed import FAMILIES
from medtl_core.heads.crossval import choose, fold_of, held_out
from medtl_core.heads.statistics import collect
from medtl_core.methods.model import Packed
from medtl_core.methods.outcome import Problem
from medtl_core.methods.study import Study
from medtl_core.methods.tasks import SiteData
from medtl_core.registry import read_methods
from medtl_core.rng import stream
from medtl_core.transfer.fourier import WIDTHS, FourierModel, Waves, fourier_statistics, widths_for
from tests.memory import DirectHospitals, make_site

PROBLEM = Problem(("x", "y", "z"), "features", (("4", 0, 6),))


def draw(count: int, features: int, seed: int = 0) -> Waves:
    return Waves.draw(count, np.zeros(features), np.ones(features), rng=stream(seed, "test"))


def asked(name: str, hospitals: DirectHospitals, problem: Problem = PROBLEM) -> tuple[Study, FourierModel]:
    made = Study(hospitals, problem, Settings(), read_methods(name))
    model = made.outcome(made.methods[0]).heads[""]
    assert isinstance(model, FourierModel)
    return made, model


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 100), width=st.floats(1.0, 8.0))
def test_products_of_waves_approximate_the_gaussian_kernel(seed: int, width: float) -> None:
    values = np.random.default_rng(seed).normal(size=(6, 4))
    mapped = draw(4000, 4, seed).mapped(values, (width,))[0]
    # a mean of 4,000 products of two cosines, each within [-2, 2] and of variance at most 1/2 + 1/2
    np.testing.assert_allclose(mapped @ mapped.T, rbf_kernel(values, gamma=0.5 / width**2), atol=6 / np.sqrt(4000))


def test_the_map_by_hand() -> None:
    waves = Waves(
        np.array([[1.0, 0.0], [0.0, 2.0]]), np.array([0.0, np.pi / 2]), np.array([1.0, 2.0]), np.array([2.0, 4.0])
    )
    mapped = waves.mapped(np.array([[3.0, 6.0]]), (1.0, 2.0))
    np.testing.assert_allclose(mapped[0], [[np.cos(1.0), np.cos(2.0 + np.pi / 2)]])
    np.testing.assert_allclose(mapped[1], [[np.cos(0.5), np.cos(1.0 + np.pi / 2)]])


def test_half_the_mean_squared_distance_is_the_number_of_features() -> None:
    values = np.random.default_rng(0).normal(size=(300, 50)) * 7 + 3
    standard = (values - values.mean(0)) / values.std(0)
    distance = ((standard[:, None] - standard[None]) ** 2).sum(2)
    assert distance.mean() / 2 == pytest.approx(widths_for(50)[WIDTHS.index(1.0)] ** 2)


@pytest.mark.parametrize("name", ["fourier-40", "fourier-40-ridge"])
def test_the_head_equals_the_one_from_pooled_cases(hospitals: DirectHospitals, name: str) -> None:
    made, model = asked(name, hospitals)
    sites = list(hospitals.sites.values())
    values, label = np.concatenate([s.values for s in sites]), np.concatenate([s.label for s in sites])
    fold = np.concatenate([fold_of(s.patients, s.label, 5, s.seed) for s in sites])
    family = FAMILIES[model.facts["family"]]
    found = []
    for mapped in model.waves.mapped(values, widths_for(6)):
        heads = np.stack([family.heads(collect(mapped[fold != f], label[fold != f], 3)) for f in range(5)])
        choice = choose(held_out(heads.astype(np.float32), mapped, label, fold), np.bincount(label).astype(float))
        found.append((choice.loss, family.heads(collect(mapped, label, 3))[choice.index] * choice.temperature))
    index = int(np.argmin([loss for loss, _ in found]))
    assert model.width == widths_for(6)[index]
    assert model.facts["cv_loss"] == pytest.approx(found[index][0], abs=1e-5)
    np.testing.assert_allclose(model.affine, found[index][1], rtol=1e-6, atol=1e-8)
    pooled = (values.astype(float) - values.astype(float).mean(0)) / values.astype(float).std(0)
    np.testing.assert_allclose((values - model.waves.mean) / model.waves.scale, pooled, atol=1e-4)
    assert made.hospitals.costs.keys() == {"moments", "fourier-statistics-40", "fourier-validate-40"}


def test_two_heads_share_their_messages(hospitals: DirectHospitals) -> None:
    made = Study(hospitals, PROBLEM, Settings(), read_methods("fourier-20,fourier-20-ridge"))
    kinds = [made.outcome(method).facts["family"] for method in made.methods]
    assert kinds == ["discriminant", "ridge"]
    assert [request.task for request in hospitals.asked] == ["moments", "fourier_statistics", "fourier_validate"]


def rings(name: str) -> SiteData:
    """Class 1 encloses class 0: no line cuts them."""
    site = make_site(name, 80, width=2, classes=2)
    rng = stream(0, "rings", name)
    label = np.arange(80) % 2
    angle, radius = rng.uniform(0, 2 * np.pi, 80), 1.0 + 2.0 * label + 0.2 * rng.standard_normal(80)
    values = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1).astype(np.float32)
    return SiteData(name, values, label.astype(np.int64), site.patients, values, label, site.patients, 2, 0)


def test_a_ring_is_told_from_its_middle() -> None:
    hospitals = DirectHospitals([rings(name) for name in "abc"])
    problem = Problem(("in", "out"), "features", (("4", 0, 2),))
    made = Study(hospitals, problem, Settings(), read_methods("discriminant,fourier-100"))
    values = np.concatenate([site.values for site in hospitals.sites.values()])
    label = np.concatenate([site.label for site in hospitals.sites.values()])
    straight, bent = (
        float((made.outcome(method).heads[""].logits(values).argmax(1) == label).mean()) for method in made.methods
    )
    assert straight < 0.7
    assert bent > 0.97


def test_a_model_comes_back_from_its_arrays(hospitals: DirectHospitals) -> None:
    _, model = asked("fourier-20", hospitals)
    packed = model.pack()
    values = next(iter(hospitals.sites.values())).values
    np.testing.assert_array_equal(FourierModel.unpack(packed).logits(values), model.logits(values))
    for name in packed.arrays:
        rest = {key: array for key, array in packed.arrays.items() if key != name}
        with pytest.raises(WeightsError, match=f"lacks '{name}'"):
            FourierModel.unpack(Packed(rest, packed.config, packed.classes, ""))
        broken = {**packed.arrays, name: packed.arrays[name][:-1]}
        with pytest.raises(WeightsError, match="do not fit together"):
            FourierModel.unpack(Packed(broken, packed.config, packed.classes, ""))
    with pytest.raises(WeightsError, match="do not fit together"):
        FourierModel.unpack(Packed(packed.arrays, {"width": 0.0}, packed.classes, ""))


def test_other_waves_are_refused() -> None:
    site = make_site("a", 12)
    arrays = {"mean": np.zeros(6), "scale": np.ones(6)}
    with pytest.raises(ConfigError, match="other random waves"):
        fourier_statistics(site, arrays, {"folds": 2, "waves": 8, "digest": "0" * 64})


def test_waves_depend_on_the_seed_and_are_the_same_for_all() -> None:
    one, same, other = draw(8, 3, 0), draw(8, 3, 0), draw(8, 3, 1)
    assert one.digest == same.digest != other.digest
    assert np.array_equal(one.frequencies * 4096, np.round(one.frequencies * 4096))


@pytest.mark.parametrize("name", ["fourier", "fourier-0", "fourier-5", "fourier-100000", "fourier-50-lda"])
def test_other_names_are_unknown(name: str) -> None:
    with pytest.raises(ConfigError, match="unknown method"):
        read_methods(name)
