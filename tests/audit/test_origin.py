"""The probe that guesses hospitals, on made-up cases whose truth is known."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from medtl_core.audit.membership import plainly
from medtl_core.audit.origin import origin, recognised
from medtl_core.audit.site import AuditedData
from medtl_core.rng import stream
from tests.audit.made import data_set


@pytest.mark.parametrize(("apart", "low", "high"), [(0.0, 0.42, 0.58), (1.0, 0.60, 0.78), (6.0, 0.98, 1.0)])
def test_hospitals_are_told_apart_as_far_as_their_cases_differ(apart: float, low: float, high: float) -> None:
    """Two Gaussians at distance d are told with chance Phi(d / 2); who is told from a class mix alone is not."""
    rng = stream(1, "origin")
    label = rng.integers(2, size=400)
    place = np.where(rng.random(400) < np.where(label, 0.8, 0.2), 1, 0)  # the mixes differ
    inputs = np.stack([3.0 * label, apart * place], axis=1) + rng.standard_normal((400, 2))
    share, least, most = recognised(inputs, place, label, np.arange(400) // 2 * 2, seed=0)
    assert low <= share <= high
    assert least <= share <= most < least + 0.15
    assert (least > 0.5) == (apart > 0)


def test_cases_of_one_patient_are_never_on_both_sides() -> None:
    """Every patient is an island: what was learnt of one patient's case would name the other's hospital."""
    rng = stream(2, "origin")
    owner = np.repeat(np.arange(60), 4)
    place = rng.integers(2, size=60)[owner]
    inputs = np.eye(60)[owner] + 0.01 * rng.standard_normal((240, 60))
    share, low, high = recognised(inputs, place, np.zeros(240, np.int64), owner, seed=0)
    assert low < 0.5 < high or share < 0.5


def changed(data: AuditedData, where: np.ndarray) -> AuditedData:
    return replace(data, where=where)


def test_a_class_counts_where_two_hospitals_have_enough_patients_of_it(tmp_path: Path) -> None:
    data = data_set(tmp_path)
    label, owner = data.site.data.label, data.site.owner
    (found,) = origin("ridge", changed(data, np.where(label == 0, "east", data.where)), plainly("ridge", data.pooled))
    assert found.numbers["cases"] == (label != 0).sum()
    assert found.numbers["chance"] == 0.5 and found.held is None
    few = np.where(owner < 4, "west", "east")
    assert origin("ridge", changed(data, few), plainly("ridge", data.pooled)) == []
    assert origin("ridge", changed(data, np.full(len(owner), "one")), plainly("ridge", data.pooled)) == []
