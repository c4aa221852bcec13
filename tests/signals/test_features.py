"""Features of signals: a case's row is its own, what they should and should not see, and what they are called."""

import numpy as np
import pytest

from medtl_core.config import Settings
from medtl_core.data.catalog import catalog
from medtl_core.data.synthetic.signals import drawn
from medtl_core.errors import ConfigError, DataError
from medtl_core.features.extract import extract, feature_spec
from medtl_core.signals.encoder import ENCODER
from medtl_core.signals.statistics import statistics
from medtl_core.values import Examples, Task

COLUMNS = ("signal:I@100x400", "signal:II@100x400")
WAVES = np.random.default_rng(0).standard_normal((5, 400, 2))


def cases(waves: np.ndarray) -> Examples:
    return Examples(
        {"label": np.zeros(len(waves), np.int64), "signal": waves.astype(np.float32)}, Task("t", ("a", "b"))
    )


def read(waves: np.ndarray, **changes: str) -> np.ndarray:
    chosen = Settings(cache="off", **{"backbone": "signal:spectrum", **changes})  # type: ignore[arg-type]
    return extract(cases(waves), feature_spec(chosen, (), COLUMNS), chosen).values


@pytest.mark.parametrize("backbone", ["signal:spectrum", "signal:random:lite0"])
def test_a_case_has_the_same_row_whatever_is_beside_it(backbone: str) -> None:
    whole = read(WAVES, backbone=backbone)
    assert whole.shape[0] == 5 and whole.std(axis=0).max() > 0
    np.testing.assert_allclose(read(WAVES[2:3], backbone=backbone), whole[2:3], rtol=1e-4, atol=1e-5)
    assert read(WAVES[:0], backbone=backbone).shape == (0, whole.shape[1])


def test_formulas_and_pictures_stand_beside_each_other() -> None:
    both = read(WAVES, backbone="signal:spectrum+signal:random:lite0")
    apart = [read(WAVES, backbone=f"signal:{name}") for name in ("spectrum", "random:lite0")]
    np.testing.assert_array_equal(both, np.concatenate(apart, axis=1))


def test_what_is_pooled_does_not_depend_on_the_order_of_leads() -> None:
    pooled, swapped = (statistics(waves)["pooled"] for waves in (WAVES, WAVES[..., ::-1]))
    np.testing.assert_allclose(pooled, swapped, atol=1e-9)
    assert read(WAVES, features="plain").shape[1] == pooled.shape[1] < read(WAVES).shape[1]


@pytest.mark.parametrize("wave", [np.zeros((400, 2)), np.full((400, 2), 1e6), np.eye(400)[:, :2] * 1e9])
def test_flat_and_saturated_leads_have_finite_features(wave: np.ndarray) -> None:
    assert np.isfinite(read(wave[None])).all()


def test_constants_and_leads_are_in_the_fingerprint() -> None:
    chosen = Settings(backbone="signal:spectrum")
    other = feature_spec(chosen, (), ("signal:I@200x400", COLUMNS[1]))
    assert feature_spec(chosen, (), COLUMNS).fingerprint != other.fingerprint
    assert feature_spec(chosen, (), ("age", *COLUMNS)).fingerprint == feature_spec(chosen, (), COLUMNS).fingerprint


@pytest.mark.parametrize(
    ("changes", "columns", "words"),
    [
        ({"backbone": "signal:spectrm"}, COLUMNS, "unknown backbone"),
        ({"features": "pool"}, COLUMNS, "pooled"),
        ({}, ("age",), "no signals"),
    ],
)
def test_settings_that_mean_nothing_are_refused(changes: dict[str, str], columns: tuple[str, ...], words: str) -> None:
    chosen = Settings(**{"backbone": "signal:spectrum", **changes})  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=words):
        feature_spec(chosen, (), columns)


def test_cases_without_signals_are_refused() -> None:
    chosen = Settings(backbone="signal:spectrum", cache="off")
    table = Examples({"label": np.zeros(1, np.int64), "table": np.zeros((1, 2))}, Task("t", ("a", "b")))
    with pytest.raises(DataError, match="hold no signal"):
        extract(table, feature_spec(chosen, (), COLUMNS), chosen)


def test_an_explanation_finds_the_span_where_something_happens() -> None:
    chosen, wave = Settings(backbone="signal:spectrum"), np.zeros((400, 1))
    wave[205:215] = 3.0  # the eleventh of twenty spans
    columns = ("signal:0@1x400",)
    spec = feature_spec(chosen, (), columns)
    row = ENCODER.rows(cases(np.stack([wave, wave * 0])), ENCODER.encoding(chosen, columns), chosen)
    parts = ENCODER.parts(wave, (row[0] - row[1]).astype(np.float64), chosen)
    assert len(parts) == 20 and max(parts, key=lambda part: part[1])[0] == "50-55 % of the time"
    assert spec.width == row.shape[1]


def test_built_in_signals_are_the_same_ones_and_longer_sets_begin_alike() -> None:
    few, more = (drawn(catalog()["bearings"], train=count) for count in (4, 6))
    kept = np.isin(more["patient"], few["patient"])
    np.testing.assert_array_equal(more["signal"][kept], few["signal"])
    for name in ("bearings", "heartbeats"):
        rate, _, samples = catalog()[name].layout.leads[0].rpartition("@")[2].partition("x")
        assert drawn(catalog()[name], train=1)["signal"].shape[1] == int(samples) and float(rate) > 0


def test_pairs_are_the_products_of_a_tables_columns() -> None:
    chosen = Settings(backbone="table", features="pairs")
    table = Examples({"label": np.zeros(1, np.int64), "table": np.array([[2.0, np.nan, 5.0]])}, Task("t", ("a", "b")))
    found = extract(table, feature_spec(chosen, (), ("a", "b", "c")), chosen)
    assert found.values.tolist() == [[2, 0, 0, 1, 5, 0, 4, 0, 10, 0, 0, 25]]
    assert [name for name, _, _ in found.groups] == ["table", "pairs"]
