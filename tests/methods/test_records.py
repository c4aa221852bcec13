"""Tables of several hospitals: medians and scales from sums, whatever the unit and the offset."""

from dataclasses import replace

import numpy as np
import pytest

from medtl_core.errors import MedtlError
from medtl_core.federation.registry import unpack
from medtl_core.federation.tasks import SiteData
from medtl_core.methods.tables.records import TableHead
from medtl_core.methods.tables.scaling import scaling_of
from tests.methods.followed import WIDTH, opened, outcome, site, tables

SITES = [site("a", 61, gaps=0.2), site("b", 45), site("c", 30, gaps=0.1)]


def moved(factor: float, offset: float) -> list[SiteData]:
    """The same cases in another unit."""
    return [opened(one.name, tables([one]) * factor + offset, one.label) for one in SITES]


def model_of(sites: list[SiteData]) -> TableHead:
    model = outcome(sites, "records")[0].heads[""]
    assert isinstance(model, TableHead)
    return model


def test_centres_are_the_pooled_medians_and_scales_follow_the_quartiles() -> None:
    _, study = outcome(SITES, "records")
    scaling, pooled = scaling_of(study), tables(SITES)
    spread = np.nanstd(pooled, axis=0)
    low, median, high = np.nanquantile(pooled, [0.25, 0.5, 0.75], axis=0, method="inverted_cdf")
    assert (np.abs(scaling.centre - median) < 1e-3 * spread).all()
    assert (np.abs(scaling.scale - (high - low) / 1.349) < 1e-3 * spread).all()
    assert [exchange.phase for exchange in study.hospitals.exchanges].count("table-scaling") == 4


@pytest.mark.parametrize(("factor", "offset"), [(1e-9, 0.0), (1.0, 1e9), (1e12, -1e15), (1e-3, 1e6)])
def test_neither_unit_nor_offset_changes_an_answer(factor: float, offset: float) -> None:
    plain, other = model_of(SITES), model_of(moved(factor, offset))
    before = plain.logits(np.zeros((0, 0)), SITES[0].material)
    after = other.logits(np.zeros((0, 0)), moved(factor, offset)[0].material)
    np.testing.assert_allclose(after, before, atol=2e-3 * np.abs(before).max())


def test_a_column_that_is_constant_or_never_measured_does_no_harm() -> None:
    plain = model_of(SITES).logits(np.zeros((0, 0)), SITES[0].material)
    for value in (7.0, np.nan):
        wider = [np.column_stack([tables([one]), np.full(len(one.label), value)]) for one in SITES]
        sites = [opened(one.name, table, one.label) for one, table in zip(SITES, wider, strict=True)]
        answers = model_of(sites).logits(np.zeros((0, 0)), sites[0].material)
        assert np.isfinite(answers).all() and np.corrcoef(answers[:, 1], plain[:, 1])[0, 1] > 0.98


def test_a_head_travels_and_a_damaged_or_imageless_one_is_refused() -> None:
    model = model_of(SITES)
    packed = model.pack()
    again = unpack("table", packed)
    answers = [each.logits(np.zeros((0, 0)), SITES[0].material) for each in (model, again)]
    np.testing.assert_array_equal(*answers)
    with pytest.raises(MedtlError, match="scale"):
        unpack("table", replace(packed, arrays={**packed.arrays, "scale": -packed.arrays["scale"]}))
    with pytest.raises(MedtlError, match="table"):
        model.logits(np.zeros((3, 2 * WIDTH)))
