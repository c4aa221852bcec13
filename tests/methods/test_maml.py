"""MAML and ANIL: the meta-gradient against finite differences, and what travels."""

import numpy as np
import pytest
import torch

from medtl_core.config import Settings
from medtl_core.errors import ConfigError, DataError
from medtl_core.federation.outcome import Problem
from medtl_core.federation.registry import answer, find_method, read_methods
from medtl_core.federation.study import Study
from medtl_core.methods.maml import Inner, Maml, adapted, fixed_of, meta_gradient
from medtl_core.methods.network import BODY, HEAD, NAMES, Network, forward, start_of
from tests.memory import DirectHospitals, make_site

PROBLEM = Problem(("x", "y", "z"), "features", (("4", 0, 6),))

Side = tuple[torch.Tensor, torch.Tensor]


@pytest.fixture
def arrays() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    shapes = {"body.weight": (3, 4), "body.bias": (3,), "head.weight": (2, 3), "head.bias": (2,)}
    return {name: rng.normal(size=shape) for name, shape in shapes.items()}  # double precision


@pytest.fixture
def sides() -> tuple[Side, Side]:
    rng = np.random.default_rng(1)
    support, query = (torch.tensor(rng.normal(size=(6, 4))) for _ in range(2))
    label = torch.tensor([0, 1, 0, 1, 0, 1])
    return (support, label), (query, label)


def loss_after(arrays: dict[str, np.ndarray], sides: tuple[Side, Side], inner: Inner) -> float:
    return meta_gradient(arrays, sides[0], sides[1], inner)[1]


@pytest.mark.parametrize("names", [NAMES, HEAD], ids=["maml", "anil"])
@pytest.mark.parametrize("steps", [1, 3])
def test_the_meta_gradient_is_that_of_finite_differences(
    arrays: dict[str, np.ndarray], sides: tuple[Side, Side], names: tuple[str, ...], steps: int
) -> None:
    inner, small = Inner(steps, 0.4, names), 1e-6
    slopes, _ = meta_gradient(arrays, sides[0], sides[1], inner)
    for name, array in arrays.items():
        for at in np.ndindex(array.shape):
            ends = []
            for sign in (1, -1):
                moved = {key: value.copy() for key, value in arrays.items()}
                moved[name][at] += sign * small
                ends.append(loss_after(moved, sides, inner))
            difference = (ends[0] - ends[1]) / (2 * small)
            assert slopes[name][at].item() == pytest.approx(difference, abs=1e-7), (name, at)


def test_first_order_is_the_gradient_at_the_adapted_arrays(
    arrays: dict[str, np.ndarray], sides: tuple[Side, Side]
) -> None:
    inner = Inner(2, 0.4, NAMES, second_order=False)
    slopes, _ = meta_gradient(arrays, sides[0], sides[1], inner)
    start = {name: torch.tensor(array, requires_grad=True) for name, array in arrays.items()}
    there = {
        name: array.detach().requires_grad_() for name, array in adapted(start, sides[0], inner).items()
    }  # fmt: skip
    loss = torch.nn.functional.cross_entropy(forward(there, sides[1][0]), sides[1][1])
    for name, slope in zip(NAMES, torch.autograd.grad(loss, [there[name] for name in NAMES]), strict=True):
        np.testing.assert_allclose(slopes[name], slope, atol=1e-12)
    second, _ = meta_gradient(arrays, sides[0], sides[1], Inner(2, 0.4, NAMES))
    assert any(not np.allclose(second[name], slopes[name]) for name in NAMES)


def test_anil_moves_the_head_only(arrays: dict[str, np.ndarray], sides: tuple[Side, Side]) -> None:
    start = {name: torch.tensor(array, requires_grad=True) for name, array in arrays.items()}
    done = adapted(start, sides[0], Inner(2, 0.4, HEAD))
    assert all(torch.equal(done[name], start[name]) for name in BODY)
    assert not any(torch.equal(done[name], start[name]) for name in HEAD)


def test_labels_are_positions_among_the_columns_that_take_part(sides: tuple[Side, Side]) -> None:
    rng = np.random.default_rng(2)
    wide = {"body.weight": rng.normal(size=(3, 4)), "body.bias": np.zeros(3),
            "head.weight": rng.normal(size=(5, 3)), "head.bias": np.zeros(5)}  # fmt: skip
    narrow = {**wide, "head.weight": wide["head.weight"][[1, 4]], "head.bias": wide["head.bias"][[1, 4]]}
    inner = Inner(2, 0.4, NAMES)
    slopes, loss = meta_gradient(wide, sides[0], sides[1], inner, torch.tensor([1, 4]))
    expected, same = meta_gradient(narrow, sides[0], sides[1], inner)
    assert loss == pytest.approx(same)
    np.testing.assert_allclose(slopes["head.weight"][[1, 4]], expected["head.weight"], atol=1e-12)
    assert (slopes["head.weight"][[0, 2, 3]] == 0).all()


def study(name: str, *, sites: int = 3) -> Study:
    hospitals = DirectHospitals([make_site("abcde"[number], 24) for number in range(sites)])
    return Study(hospitals, PROBLEM, Settings(), read_methods(name))


@pytest.mark.parametrize("name", ["maml-2", "anil-2-steps-5", "maml-2-first-order"])
def test_every_variant_learns_something(name: str) -> None:
    made = study(name)
    network = made.outcome(made.methods[0]).heads[""]
    sites = made.hospitals.sites.values()  # type: ignore[attr-defined]
    values = np.concatenate([site.values for site in sites])
    label = np.concatenate([site.label for site in sites])
    assert isinstance(network, Network)
    assert (network.logits(values).argmax(axis=1) == label).mean() > 0.55


def test_the_federations_steps_are_those_on_the_pooled_cases() -> None:
    made = study("anil-1")
    made.moments  # noqa: B018 - asked once, so that it is not among what follows
    config = Inner(1, 0.2, NAMES).config()
    start, fixed = start_of(made), fixed_of(made)
    rng = np.random.default_rng(0)
    start["head.weight"] = rng.normal(size=start["head.weight"].shape).astype(np.float32)
    sites = list(made.hospitals.sites.values())  # type: ignore[attr-defined]
    pooled = make_site("pool", 1)
    pooled = type(pooled)(
        "pool", *(np.concatenate([getattr(site, key) for site in sites]) for key in ("values", "label", "patients")),
        pooled.test_values, pooled.test_label, pooled.test_patients, 3, 0,
    )  # fmt: skip
    apart = [answer("gradient_step", site, {**start, **fixed}, config).update.arrays for site in sites]
    together = answer("gradient_step", pooled, {**start, **fixed}, config).update.arrays
    for name in NAMES:
        mean = np.mean([arrays[name] for arrays in apart], axis=0)  # all have as many cases
        np.testing.assert_allclose(mean, together[name], atol=1e-6)


def test_a_hospital_without_two_classes_sits_out_of_episodes() -> None:
    site = make_site("a", 8, skew=1)
    config = {"round": 1, "of": 1, **Inner(1).config(), "outer-rate": 0.1, "tasks": 1, "ways": 3}
    made = study("anil-1", sites=1)
    arrays = {**start_of(made), "mean": np.zeros(6), "scale": np.ones(6)}
    with pytest.raises(DataError, match="sits out"):
        answer("fit_meta", site, arrays, config)


def test_divergence_is_refused() -> None:
    made = study("anil-1", sites=1)
    config = {"round": 1, "of": 1, **Inner(1).config(), "outer-rate": 1e38, "tasks": 3, "ways": 3}
    arrays = {**start_of(made), "mean": np.zeros(6), "scale": np.ones(6)}
    arrays["head.weight"] = np.ones_like(arrays["head.weight"]) * np.arange(3, dtype=np.float32)[:, None]
    with pytest.raises(DataError, match="diverged"):
        answer("fit_meta", make_site("a", 24), arrays, config)


def test_names_carry_rounds_steps_and_order() -> None:
    assert find_method("anil-20") == Maml("anil-20", "anil", 20, False, 3)
    assert find_method("maml-5-steps-2-first-order") == Maml("maml-5-steps-2-first-order", "maml", 5, True, 2)
    with pytest.raises(ConfigError, match="unknown method"):
        find_method("maml-5-steps-6")
