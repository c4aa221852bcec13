"""MAML and ANIL: the meta-gradient against finite differences, and what travels."""

from collections.abc import Mapping

import numpy as np
import pytest
import torch

from medtl_core.config import Settings
from medtl_core.errors import DataError
from medtl_core.federation.registry import answer, find_method, read_methods
from medtl_core.federation.study import Study
from medtl_core.methods.inner_loop import Inner, adapted
from medtl_core.methods.models.network import BODY, HEAD, NAMES, Network, forward
from simulations.memory import MemoryHospitals
from tests.memory import PROBLEM, make_site

Side = tuple[torch.Tensor, torch.Tensor]
Arrays = Mapping[str, np.ndarray]


def drawn(classes: int = 2, *, hidden: int = 3, width: int = 4) -> dict[str, np.ndarray]:
    """A network in double precision."""
    rng = np.random.default_rng(0)
    shapes = {"body.weight": (hidden, width), "body.bias": (hidden,), "head.weight": (classes, hidden),
              "head.bias": (classes,)}  # fmt: skip
    return {name: rng.normal(size=shape) for name, shape in shapes.items()}


def sides() -> tuple[Side, Side]:
    rng = np.random.default_rng(1)
    label = torch.tensor([0, 1, 0, 1, 0, 1])
    return (torch.tensor(rng.normal(size=(6, 4))), label), (torch.tensor(rng.normal(size=(6, 4))), label)


def meta_gradient(arrays: Arrays, inner: Inner, columns: torch.Tensor | None = None) -> tuple[Arrays, float]:
    """The gradient by every array of the query loss after the inner loop, as a hospital takes it, and that loss."""
    start = {name: torch.tensor(array, requires_grad=True) for name, array in arrays.items()}
    support, query = sides()
    logits = forward(adapted(start, support, inner, columns), query[0])
    loss = torch.nn.functional.cross_entropy(logits if columns is None else logits[:, columns], query[1])
    slopes = torch.autograd.grad(loss, list(start.values()))
    return {name: slope.numpy() for name, slope in zip(start, slopes, strict=True)}, float(loss.detach())


@pytest.mark.parametrize("names", [NAMES, HEAD], ids=["maml", "anil"])
@pytest.mark.parametrize("steps", [1, 3])
def test_the_meta_gradient_is_that_of_finite_differences(names: tuple[str, ...], steps: int) -> None:
    arrays, inner, small = drawn(), Inner(steps, 0.4, names), 1e-6
    slopes, _ = meta_gradient(arrays, inner)
    for name, array in arrays.items():
        for at in np.ndindex(array.shape):
            ends = []
            for sign in (1, -1):
                moved = {key: value.copy() for key, value in arrays.items()}
                moved[name][at] += sign * small
                ends.append(meta_gradient(moved, inner)[1])
            assert slopes[name][at] == pytest.approx((ends[0] - ends[1]) / (2 * small), abs=1e-7), (name, at)


def test_anil_moves_the_head_only() -> None:
    start = {name: torch.tensor(array, requires_grad=True) for name, array in drawn().items()}
    moved = adapted(start, sides()[0], Inner(2, 0.4, HEAD))
    assert all(torch.equal(moved[name], start[name]) for name in BODY)
    assert not any(torch.equal(moved[name], start[name]) for name in HEAD)


def test_labels_are_positions_among_the_columns_that_take_part() -> None:
    wide = drawn(5)
    narrow = {**wide, "head.weight": wide["head.weight"][[1, 4]], "head.bias": wide["head.bias"][[1, 4]]}
    slopes, loss = meta_gradient(wide, Inner(2, 0.4), torch.tensor([1, 4]))
    expected, same = meta_gradient(narrow, Inner(2, 0.4))
    assert loss == pytest.approx(same)
    np.testing.assert_allclose(slopes["head.weight"][[1, 4]], expected["head.weight"], atol=1e-12)
    assert (slopes["head.weight"][[0, 2, 3]] == 0).all()


@pytest.mark.parametrize("name", ["maml-2", "anil-2"])
def test_every_variant_learns_something(name: str) -> None:
    hospitals = MemoryHospitals([make_site(letter, 24) for letter in "abc"])
    study = Study(hospitals, PROBLEM, Settings(), read_methods(name))
    outcome = study.outcome(find_method(name))
    network = outcome.heads[""]
    values = np.concatenate([site.values for site in hospitals.sites.values()])
    label = np.concatenate([site.label for site in hospitals.sites.values()])
    assert isinstance(network, Network)
    assert (network.logits(values).argmax(axis=1) == label).mean() > 0.55
    assert set(outcome.bill) == {"moments", f"fit-{name}", f"step-{name}"}
    assert outcome.facts["head-only"] == name.startswith("anil")


SENT = {
    **{name: array.astype(np.float32) for name, array in drawn(3, hidden=64, width=6).items()},
    "mean": np.zeros(6), "scale": np.ones(6), "weight": np.array([1.0, 2.0, 0.5], np.float32),
}  # fmt: skip


@pytest.mark.parametrize("names", [NAMES, HEAD], ids=["maml", "anil"])
def test_the_federations_steps_are_those_on_the_pooled_cases(names: tuple[str, ...]) -> None:
    config, sites = Inner(1, 0.2, names).config(), [make_site(letter, 24) for letter in "abc"]
    pooled = type(sites[0])(
        "pool", *(np.concatenate([getattr(site, key) for site in sites]) for key in ("values", "label", "patients")),
        sites[0].test_values, sites[0].test_label, sites[0].test_patients, 3, 0,
    )  # fmt: skip
    apart = [answer("gradient_step", site, SENT, config).update.arrays for site in sites]
    together = answer("gradient_step", pooled, SENT, config).update.arrays
    for name in NAMES:
        mean = np.mean([arrays[name] for arrays in apart], axis=0)  # all have as many cases
        np.testing.assert_allclose(mean, together[name], atol=1e-5)
        assert (together[name] != SENT[name]).any() == (name in names)


def test_a_hospital_without_two_classes_or_with_wild_rates_sits_out() -> None:
    config = {"round": 1, "of": 1, **Inner(1).config(), "outer-rate": 0.1, "tasks": 3, "ways": 3}
    with pytest.raises(DataError, match="sits out"):
        answer("fit_meta", make_site("a", 8, skew=1), SENT, config)
    with pytest.raises(DataError, match="diverged"):
        answer("fit_meta", make_site("a", 24), SENT, {**config, "outer-rate": 1e38})
