"""The nuisance-scatter penalty: brute force over cases, what it does to a direction of shift, and its edges."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medtl_core.heads.crossval import fold_of
from medtl_core.methods import nuisance
from medtl_core.methods.nuisance import GRID
from medtl_core.methods.nuisance_scatter import scatter
from simulations.memory import MemoryHospitals
from tests.methods.shifted import plain, shifted, study

SIZES = {"a": 30, "b": 24, "c": 40}


def brute_force(parts: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """Sum over cases of (hospital's class mean - class mean)(...)^T: what S_D means, case by case."""
    values = np.concatenate([one for one, _ in parts]).astype(np.float64)
    label = np.concatenate([one for _, one in parts])
    found = np.zeros((values.shape[1], values.shape[1]))
    for own, own_label in parts:
        for one in own_label:
            off = own[own_label == one].astype(np.float64).mean(0) - values[label == one].mean(0)
            found += np.outer(off, off)
    return found


@settings(deadline=None, max_examples=8)
@given(st.integers(0, 1000))
def test_the_scatter_equals_brute_force_also_without_each_fold(seed: int) -> None:
    sites = shifted(plain(SIZES, seed), seed)
    found = scatter(study(sites, "discriminant-nuisance"))
    assert len(found) == 6
    for fold, matrix in enumerate(found, start=-1):
        kept = [fold_of(site.patients, site.label, 5, site.seed) != fold for site in sites]
        wanted = brute_force([(site.values[rows], site.label[rows]) for site, rows in zip(sites, kept, strict=True)])
        np.testing.assert_allclose(matrix, wanted, rtol=1e-7, atol=1e-6 * np.trace(wanted))
        assert np.linalg.eigvalsh(matrix).min() > -1e-6 * np.trace(matrix)


def test_no_penalty_or_nothing_to_tell_apart_is_the_discriminant(
    hospitals: MemoryHospitals, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, odd = plain({"only": 40}), list(hospitals.sites.values())  # a hospital of one case, one of one class
    for sites, penalty in ((shifted(plain(SIZES)), 0.0), (one, nuisance.PENALTY), (odd, 0.0)):
        monkeypatch.setattr(nuisance, "PENALTY", penalty)
        made = study(sites, "discriminant,discriminant-nuisance")
        plainly, penalised = (made.outcome(method).heads[""] for method in made.methods)
        np.testing.assert_allclose(plainly.weight, penalised.weight, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(plainly.bias, penalised.bias, rtol=1e-4)


def test_the_direction_of_a_shift_loses_its_weight(monkeypatch: pytest.MonkeyPatch) -> None:
    sites = [
        replace(site, values=site.values + shift * np.eye(6, dtype=np.float32)[0])
        for site, shift in zip(plain(SIZES), (-4.0, 0.0, 4.0), strict=True)
    ]
    shares = []
    for penalty in (0.0, 3.0, 100.0):
        monkeypatch.setattr(nuisance, "PENALTY", penalty)
        made = study(sites, "discriminant-nuisance")
        weight = made.outcome(made.methods[0]).heads[""].weight
        used = np.abs(weight - weight.mean(axis=0)).sum(axis=0) * sites[1].values.std(axis=0)
        shares.append(used[0] / used.sum())
    assert shares[0] > shares[1] > shares[2]


def test_the_penalty_is_fixed_or_the_one_of_the_lowest_cross_validated_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    sites, facts = shifted(plain(SIZES)), []
    for penalty in GRID:
        monkeypatch.setattr(nuisance, "PENALTY", penalty)
        made = study(sites, "discriminant-nuisance,discriminant-nuisance-cv")
        facts.append(made.outcome(made.methods[0]).facts)
    chosen = made.outcome(made.methods[1]).facts
    assert [each["penalty"] for each in facts] == [*GRID]
    best = min(facts, key=lambda each: each["cv_loss"])
    assert (chosen["penalty"], chosen["cv_loss"]) == (best["penalty"], best["cv_loss"])
    tasks = [request.task for request in made.hospitals.asked]  # type: ignore[attr-defined]
    assert tasks.count("nuisance_spread") == tasks.count("statistics") == 1 and tasks.count("validate") == 2
