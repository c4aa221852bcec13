"""Every feature map keeps one contract: the federation's cross-validated head is that of the pooled cases."""

from collections.abc import Mapping

import numpy as np
import pytest
from scipy.special import log_softmax
from sklearn.metrics import recall_score

from medtl_core.federation.feature_map import IDENTITY, FeatureMap, Grid, Reading, solve, tasks_of
from medtl_core.federation.registry import all_tasks
from medtl_core.heads.closed_form import FAMILIES
from medtl_core.heads.crossval import TEMPERATURES
from medtl_core.heads.statistics import collect
from medtl_core.methods.standardised import STANDARDISED
from medtl_core.methods.tap_columns import TAPS
from simulations.memory import MemoryHospitals
from tests.memory import make_site

SCALE: Mapping[str, np.ndarray] = {"mean": np.full(6, 2.0), "scale": np.linspace(1.0, 2.0, 6)}
#: Each map: what the server sends for it and the width it reads.
MAPS: list[tuple[FeatureMap, Mapping[str, np.ndarray], int]] = [
    (IDENTITY, {}, 6),
    (STANDARDISED, SCALE, 6),
    (TAPS, {"columns": np.array([0, 1, 4])}, 3),
]


@pytest.fixture
def hospitals() -> MemoryHospitals:
    sizes = {"a": 30, "b": 21, "c": 24, "d": 3}  # one sends roots
    return MemoryHospitals([make_site(name, cases) for name, cases in sizes.items()])


@pytest.mark.parametrize(("map_", "sent", "width"), MAPS, ids=[one[0].task("map") for one in MAPS])
def test_the_head_is_the_cross_validated_one_of_the_pooled_cases(
    hospitals: MemoryHospitals, map_: FeatureMap, sent: Mapping[str, np.ndarray], width: int
) -> None:
    reading = Reading(hospitals, 5, map_, sent, width, 3)
    sums = reading.sums("counted")
    grids = {name: Grid.of(family, sums) for name, family in FAMILIES.items()}
    solved = solve(reading, grids, "judged")
    exchanges = [(map_.task("statistics"), "counted"), (map_.task("validate"), "judged")]
    assert [(request.task, request.phase) for request in hospitals.asked] == exchanges
    specs = [request.expected(cases).items() for request in hospitals.asked for cases in (3, 30)]
    assert {name: spec.shape for one in specs for name, spec in one} == {  # sums, and nothing else
        "counts": (5, 3), "sums": (5, 3, width), "gram": (5, width * (width + 1) // 2),
        "labels": (3, 3), "rows": (3, width + 1), "losses": (18, len(TEMPERATURES), 3), "hits": (18, 3),
    }  # fmt: skip
    assert tasks_of(map_).keys() <= all_tasks().keys()
    sites = hospitals.sites.values()
    values, target = (np.concatenate(parts) for parts in zip(*(map_.read(s, sent, {}) for s in sites), strict=True))
    fold = np.concatenate([site.fold(5) for site in sites])
    weight = 1.0 / np.bincount(target)[target]
    for name, family in FAMILIES.items():
        without = np.stack([family.heads(collect(values[fold != f], target[fold != f], 3)) for f in range(5)])
        logits = np.einsum("nscd,nd->snc", without[fold][..., :-1], values) + without[fold][..., -1].swapaxes(0, 1)
        losses = [[log_loss(scale * part, target, weight) for scale in TEMPERATURES] for part in logits]
        best = solved[name].choice
        assert best.loss == pytest.approx(np.min(losses), rel=1e-4)  # the fold heads travel as float32
        assert losses[best.index][TEMPERATURES.index(best.temperature)] == pytest.approx(np.min(losses), rel=1e-4)
        right = recall_score(target, logits[best.index].argmax(axis=1), average="macro")
        assert best.balanced_accuracy == pytest.approx(right, abs=0.02)
        whole = family.heads(collect(values, target, 3))[best.index] * best.temperature
        np.testing.assert_allclose(solved[name].affine, whole, rtol=1e-7, atol=1e-9)
        np.testing.assert_allclose(
            solved[name].without, without[:, best.index] * best.temperature, rtol=1e-6, atol=1e-8
        )
        assert solved[name].facts["strength"] == family.strengths[best.index]


def test_roots_of_few_cases_in_all_give_the_heads_of_the_whole_sums() -> None:
    sites = [make_site(name, cases, width=60) for name, cases in {"a": 9, "b": 0, "c": 14}.items()]
    reading = Reading(MemoryHospitals(sites), 4, IDENTITY, {}, 60, 3)
    known, summed = reading.sums(keep=True), reading.sums()
    assert [len(sums.decomposed.whole.spectrum()[0]) for sums in (known, summed)] == [23, 60]
    for family in FAMILIES.values():
        for columns in (None, np.arange(2, 50, 2)):
            expected, found = Grid.of(family, summed, columns), Grid.of(family, known, columns)
            np.testing.assert_allclose(found.whole, expected.whole, rtol=1e-8, atol=1e-10)
            np.testing.assert_allclose(found.without, expected.without, rtol=1e-8, atol=1e-10)


def log_loss(logits: np.ndarray, label: np.ndarray, weight: np.ndarray) -> float:
    return float(-weight @ log_softmax(logits, axis=1)[np.arange(len(label)), label] / weight.sum())
