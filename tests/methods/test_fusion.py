"""Late fusion: heads of the cases that have a modality are those of the pooled cases, and weights may be zero."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import log_softmax

from medtl_core.config import Settings
from medtl_core.errors import DataError, WeightsError
from medtl_core.federation.outcome import Problem
from medtl_core.federation.registry import read_methods, unpack
from medtl_core.federation.study import Study
from medtl_core.federation.tasks import SiteData
from medtl_core.heads.closed_form import FAMILIES
from medtl_core.heads.crossval import choose, fold_of, held_out
from medtl_core.heads.statistics import collect
from medtl_core.methods.adaptation import Support, adapt_head
from medtl_core.methods.fusion import asked
from medtl_core.methods.fusion_adapted import adapt_fused
from medtl_core.methods.fusion_gate import fitted, start_of
from medtl_core.methods.models.fused import Fused, member_logits, present, shares_of
from medtl_core.methods.models.gated import Gated, gate_terms
from medtl_core.rng import stream
from medtl_core.values import Head
from simulations.memory import MemoryHospitals

#: An image backbone with two taps, notes, and a table of two columns.
GROUPS = (("lite0:4", 0, 3), ("lite0:7", 3, 5), ("text:words:words", 5, 9), ("table:table", 9, 13))
PROBLEM = Problem(("x", "y", "z"), "features", GROUPS)
COLUMNS = {"lite0": (0, 5), "text:words": (5, 9), "table": (9, 13)}
SHIFTS = {"lite0": 1.5, "text:words": 1.0, "table": 0.0}


def drawn(name: str, cases: int, lacks: dict[str, float]) -> SiteData:
    """A hospital whose image and note tell the class, and whose table does not; some cases lack some of them."""
    rng = stream(0, "fusion", name)
    label = rng.permutation(np.arange(cases) % 3)
    values = np.zeros((cases, 13))
    for part, (start, stop) in COLUMNS.items():
        means = SHIFTS[part] * stream(0, "means", part).standard_normal((3, stop - start))
        values[:, start:stop] = means[label] + rng.standard_normal((cases, stop - start)) + 0.5
    values[:, [10, 12]] = 0.0  # nothing is missing
    for part, share in lacks.items():
        start, stop = COLUMNS[part]
        rows = rng.random(cases) < share
        values[rows, start:stop] = np.tile([0.0, 1.0], 2) if part == "table" else 0.0
    patients = np.array([f"{name}-{number // 2}" for number in range(cases)])
    wide = values.astype(np.float32)
    return SiteData(name, wide, label, patients, wide[:9], label[:9], patients[:9], 3, 0)


def one_of(sites: list[SiteData], method: str) -> Fused | Gated:
    study = Study(MemoryHospitals(sites), PROBLEM, Settings(), read_methods(method))
    model = study.outcome(study.methods[0]).heads[""]
    assert isinstance(model, Fused | Gated)
    return model


def fused(sites: list[SiteData], method: str = "fusion") -> Fused:
    model = one_of(sites, method)
    assert isinstance(model, Fused)
    return model


LACKING = [drawn("a", 60, {"text:words": 0.4}), drawn("b", 50, {"lite0": 1.0}), drawn("c", 70, {"table": 0.3})]


def test_heads_of_those_who_have_a_modality_are_those_of_the_pooled_cases() -> None:
    model = fused(LACKING)
    values, label = (np.concatenate([getattr(site, name) for site in LACKING]) for name in ("values", "label"))
    fold = np.concatenate([fold_of(site.patients, site.label, 5, site.seed) for site in LACKING])
    family = FAMILIES["discriminant"]
    for place, (name, (start, stop)) in enumerate(COLUMNS.items()):
        there = present(values, model.bounds)[:, place]
        assert 0 < there.sum() < len(there)
        part, own, folds = values[there, start:stop], label[there], fold[there]
        heads = np.stack([family.heads(collect(part[folds != f], own[folds != f], 3)) for f in range(5)])
        choice = choose(held_out(heads.astype(np.float32), part, own, folds).arrays, np.bincount(own).astype(float))
        exact = family.heads(collect(part, own, 3))[choice.index] * choice.temperature
        found = model.heads[place][:, [*range(start, stop), 13]]
        np.testing.assert_allclose(found, exact, rtol=1e-4, atol=1e-5, err_msg=name)


def test_a_case_that_lacks_a_modality_is_answered_by_the_others() -> None:
    model = fused(LACKING)
    weights = np.array([0.5, 0.5, 0.0])
    model = replace(model, weights=weights)
    row = drawn("d", 3, {}).values.astype(np.float64)[:1]
    parts = [row @ head[:, :-1].T + head[:, -1] for head in model.heads]
    assert model.logits(row) == pytest.approx((parts[0] + parts[1]) / 2)
    without = row.copy()
    without[:, :5] = 0
    assert model.logits(without) == pytest.approx(parts[1])
    without[:, 5:9] = 0
    assert model.logits(without) == pytest.approx(parts[2])  # which has no weight beside the others
    without[:, 9:] = [0, 1, 0, 1]
    assert model.logits(without).tolist() == [[0.0, 0.0, 0.0]]
    assert model.shares(row).sum(axis=0) == pytest.approx(model.logits(row))


@pytest.mark.parametrize(
    ("there", "weights", "shares"),
    [
        ([1, 1, 1], [0.5, 0.5, 0.0], [0.5, 0.5, 0.0]),
        ([1, 0, 1], [0.5, 0.5, 0.0], [1.0, 0.0, 0.0]),
        ([0, 0, 1], [0.5, 0.5, 0.0], [0.0, 0.0, 1.0]),
        ([1, 1, 1], [1.0, 1.0, 0.0], [1.0, 1.0, 0.0]),  # what two say adds up
        ([0, 1, 1], [1.0, 1.0, 0.0], [0.0, 1.0, 0.0]),  # one counts once
        ([1, 1, 0], [0.5, 0.5, 0.5], [0.6875, 0.6875, 0.0]),  # 1 + 0.5 (1 / 2) / (2 / 3), halved
        ([0, 1, 1], [1.8, 0.1, 0.1], [0.0, 1.0, 1.0]),  # never more than all
    ],
)
def test_how_much_a_member_counts(there: list[int], weights: list[float], shares: list[float]) -> None:
    found = shares_of(np.array([there], bool), np.array(weights))
    np.testing.assert_allclose(found, [shares])


def test_the_gate_is_that_of_all_cases_in_one_place() -> None:
    study = Study(MemoryHospitals(LACKING), PROBLEM, Settings(), read_methods("fusion-gated"))
    fusion = asked(study)
    heads = np.stack([one.without for one in fusion.members], axis=1).astype(np.float32)
    bounds, label = np.asarray([part.row for part in fusion.parts]), np.concatenate([site.label for site in LACKING])
    weight = 1.0 / (3 * np.bincount(label))
    start, pull = start_of(fusion.weights[fusion.chosen]), 0.1
    read = []
    for site in LACKING:
        logits, fold = np.zeros((3, len(site.label), 3)), fold_of(site.patients, site.label, 5, site.seed)
        for index in range(5):
            logits[:, fold == index] = member_logits(site.values[fold == index], heads[index].astype(np.float64))
        read.append(np.einsum("mnc,mnt->ncmt", logits, gate_terms(logits, present(site.values, bounds))))
    pooled = np.concatenate(read).reshape(len(label), 3, -1)

    def cost(gate: np.ndarray) -> float:
        logs = log_softmax(pooled @ gate, axis=1)[np.arange(len(label)), label]
        return float(-(weight[label] * logs).sum() + pull / 2 * ((gate - start) ** 2).sum())

    oracle = minimize(cost, start, method="BFGS", options={"gtol": 1e-7}).x
    sent = {"bounds": bounds, "heads": heads, "weight": weight}
    np.testing.assert_allclose(fitted(study, sent, start)[0, 1], oracle, atol=2e-4)


def test_a_gate_is_taken_where_a_modality_is_true_only_by_itself() -> None:
    """Notes of cases that have an image were mixed up; of those without they are right: no fixed weight says that."""
    sites = []
    for name in "abc":
        site = drawn(name, 120, {"lite0": 0.5})
        mixed = site.values.copy()
        both = np.flatnonzero(site.values[:, :5].any(axis=1))
        mixed[both, 5:9] = mixed[stream(0, "mixed", name).permutation(both), 5:9]
        sites.append(replace(site, values=mixed))
    late, gated = (one_of(sites, method) for method in ("fusion", "fusion-gated"))
    assert isinstance(gated, Gated) and gated.facts["gated"] and gated.facts["cv_loss"] < late.facts["cv_loss"]
    alone, beside = (gated.gate[1] @ [1.0, 0.5, image, 0.0, 1.0] for image in (0.0, 1.0))
    assert alone > 3 * abs(beside)
    values = sites[0].values
    assert gated.shares(values).sum(axis=0) == pytest.approx(gated.logits(values))
    again = unpack("gated", gated.pack())
    assert again.logits(values).tolist() == gated.logits(values).tolist()
    with pytest.raises(WeightsError, match="do not fit"):
        unpack("gated", replace(gated, gate=gated.gate[:, :2]).pack())


def test_without_a_gain_late_fusion_answers() -> None:
    sites = [drawn(name, 80, {}) for name in "abc"]
    late, gated = (one_of(sites, method) for method in ("fusion", "fusion-gated"))
    assert isinstance(gated, Fused) and not gated.facts["gated"]
    assert gated.weights.tolist() == late.weights.tolist()


def test_weights_lie_on_what_tells_the_class_and_the_best_alone_stands_beside() -> None:
    sites = [drawn(name, 80, {}) for name in "abc"]
    both, alone = fused(sites), fused(sites, "fusion-alone")
    weights = dict(zip(both.members, both.weights.tolist(), strict=True))
    assert weights["lite0"] > 0 and weights["text:words"] > 0 and weights["table"] <= 0.25
    assert sorted(alone.weights.tolist()) == [0, 0, 1]
    assert both.facts["cv_loss"] < alone.facts["cv_loss"] == min(both.facts["cv_losses"].values())
    fresh = drawn("e", 300, {})
    right = [(model.logits(fresh.values).argmax(axis=1) == fresh.label).mean() for model in (both, alone)]
    assert right[0] > right[1]


def test_where_one_modality_tells_all_the_others_get_nothing() -> None:
    rng = stream(0, "noise")
    sites = []
    for name in "abc":
        site = drawn(name, 60, {})
        values = site.values.copy()
        values[:, 5:9] = rng.standard_normal((60, 4))
        values[:, 9] = rng.standard_normal(60)
        values[:, 11] = rng.standard_normal(60)
        sites.append(replace(site, values=values))
    model = fused(sites)
    assert dict(zip(model.members, model.weights.tolist(), strict=True))["lite0"] >= 0.75


def test_the_model_travels_and_refuses_what_does_not_fit() -> None:
    model = fused(LACKING)
    again = unpack("fused", model.pack())
    assert again.logits(LACKING[0].values).tolist() == model.logits(LACKING[0].values).tolist()
    heavy = replace(model, weights=np.array([2.0, 2.0, 0.0]))
    for wrong in (heavy, replace(model, bounds=np.array([[0, 99, 0]] * 3))):
        with pytest.raises(WeightsError, match="do not fit"):
            unpack("fused", wrong.pack())


def test_a_new_hospitals_cases_move_the_heads_of_what_they_have() -> None:
    model = fused([drawn(name, 80, {}) for name in "abc"])
    site = drawn("new", 90, {"text:words": 1.0})
    values = site.values.copy()
    values[:, :5] = values[:, :5] @ stream(0, "turned").standard_normal((5, 5)).astype(np.float32)  # another device
    support = Support(values[:60], site.label[:60], site.patients[:60], PROBLEM.classes)
    adapted = adapt_fused(model, support)
    right = [(one.logits(values[60:]).argmax(axis=1) == site.label[60:]).mean() for one in (model, adapted)]
    assert right[1] > right[0] + 0.1
    assert adapted.heads[1].tolist() == model.heads[1].tolist() and adapted.weights is model.weights
    head = Head(model.heads[0][:, :5], model.heads[0][:, -1], "lite0", PROBLEM.classes, "features", {})
    alone = adapt_head(head, replace(support, values=support.values[:, :5]))
    assert adapted.heads[0][:, :5].tolist() == alone.weight.tolist()
    assert set(adapted.facts["pulls"]) == {"lite0"}  # notes are lacking, the table has no weight
    with_new = replace(support, classes=("x", "new", "z"))
    assert adapt_fused(model, with_new).logits(values[:60]).argmax(axis=1).tolist().count(1) > 10
    for wrong in (replace(support, classes=("p", "q", "r")), support.take(np.arange(0))):
        with pytest.raises(DataError):
            adapt_fused(model, wrong)
