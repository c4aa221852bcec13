"""Logistic regression in a few exchanges is that of the pooled cases; `auto` mixes it with the discriminant."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import log_softmax
from sklearn.linear_model import LogisticRegression

from medtl_core.config import Settings
from medtl_core.errors import ConfigError, DataError
from medtl_core.federation.hospitals import Request
from medtl_core.federation.outcome import Problem
from medtl_core.federation.registry import answer, find_method, read_methods
from medtl_core.federation.study import Candidates, Study
from medtl_core.federation.tasks import Arrays, SiteData
from medtl_core.methods.descent import PENALTIES
from medtl_core.methods.logistic import Penalised
from medtl_core.values import ABSENT, Released
from simulations.memory import MemoryHospitals
from tests.memory import make_site

WIDTH = 24
KINDS = ("discriminant", "logistic-5")
PROBLEM = Problem(("x", "y", "z"), "features", (("a@32:4", 0, 12), ("a@64:4", 12, 22), ("table:table", 22, WIDTH)))
NETWORKS = Problem(("x", "y", "z"), "features", (("a:4", 0, 12), ("own:b:4", 12, 22), ("table:table", 22, WIDTH)))
ALONE = Problem(("x", "y", "z"), "features", (("4", 0, WIDTH),))
#: Two hospitals with fewer cases than features, one of which shows one class, and one with more.
SIZES = {"few": 15, "many": 60, "one": 6}


def study(methods: str, problem: Problem = ALONE, width: int = WIDTH) -> tuple[Study, MemoryHospitals]:
    sites = [make_site(name, n, width=width, skew=1 if name == "one" else None) for name, n in SIZES.items()]
    hospitals = MemoryHospitals(sites)
    return Study(hospitals, problem, Settings(folds=3), read_methods(methods)), hospitals


def pooled(hospitals: MemoryHospitals) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    sites = hospitals.sites.values()
    values = np.concatenate([site.values for site in sites]).astype(np.float64)
    return values, np.concatenate([site.label for site in sites]), np.concatenate([site.fold(3) for site in sites])


def least(inputs: np.ndarray, label: np.ndarray, offset: np.ndarray, penalty: float) -> np.ndarray:
    """The head [C, d + 1] of least penalised loss, by a general optimiser."""
    rows, classes = np.arange(len(label)), len(offset)

    def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
        head = flat.reshape(classes, -1)
        logs = log_softmax(inputs @ head.T + offset, axis=1)
        slope = (np.exp(logs) - np.eye(classes)[label]).T @ inputs / len(label)
        weights = np.column_stack([head[:, :-1], np.zeros(classes)])
        return -logs[rows, label].mean() + penalty / 2 * (weights**2).sum(), (slope + penalty * weights).ravel()

    start = np.zeros(classes * inputs.shape[1])
    return minimize(objective, start, jac=True, method="BFGS", options={"gtol": 1e-9}).x.reshape(classes, -1)


def centred(logits: np.ndarray) -> np.ndarray:
    return logits - logits.mean(axis=1, keepdims=True)


@pytest.mark.parametrize("rows", [True, pytest.param(False, marks=pytest.mark.slow)], ids=["in rows", "whole"])
def test_many_exchanges_are_the_solution_of_all_cases_and_without_each_fold(
    rows: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not rows:
        monkeypatch.setattr("medtl_core.federation.study._KEPT", 0)
    made, hospitals = study("logistic-250")
    grid = Penalised.after(250).grid(made)
    sent = {request.task: request for request in hospitals.asked}["logistic_gradient"]
    assert ("rows" in sent.expected(15)) == rows and "gradient" in sent.expected(60)
    values, label, fold = pooled(hospitals)
    inputs = np.column_stack([(values - values.mean(axis=0)) / (values.std(axis=0) + 1e-6), np.ones(len(values))])
    for heads, of in ((grid.whole, fold >= 0), (grid.without[1], fold != 1)):
        share = np.bincount(label[of]) / of.sum()
        for head, penalty in zip(heads, PENALTIES, strict=True):
            direct = inputs @ least(inputs[of], label[of], np.log(share), penalty).T
            ours = values @ head[:, :-1].T + head[:, -1]
            np.testing.assert_allclose(centred(ours), centred(direct), atol=2e-6)


def test_hospitals_that_drop_out_take_their_cases_with_them() -> None:
    """One whose sums never came has no say in rows either; one that leaves later is missed."""

    class Failing(MemoryHospitals):
        def answer(self, site: SiteData, request: Request, arrays: Arrays) -> Released:
            late = sum(one.task == "logistic_gradient" for one in self.asked) > 2
            if (site.name == "few" and request.task == "statistics") or (site.name == "one" and late):
                raise DataError("sits out")
            return super().answer(site, request, arrays)

    sites = [make_site(name, cases, width=WIDTH) for name, cases in SIZES.items()]
    hospitals = Failing(sites, quorum=0.3)
    made = Study(hospitals, ALONE, Settings(folds=3), read_methods("logistic-5"))
    head = made.outcome(find_method("logistic-5")).heads[""]
    values, label, _ = pooled(hospitals)
    assert (head.logits(values).argmax(axis=1) == label).mean() > 0.9


def test_with_equal_shares_it_is_scikit_learns() -> None:
    hospitals = MemoryHospitals([make_site(name, 30, width=8) for name in "ab"])
    made = Study(
        hospitals, Problem(("x", "y", "z"), "", (("4", 0, 8),)), Settings(folds=3), read_methods("logistic-250")
    )
    values, label, _ = pooled(hospitals)
    inputs = (values - values.mean(axis=0)) / (values.std(axis=0) + 1e-6)
    for head, penalty in zip(Penalised.after(250).grid(made).whole, PENALTIES, strict=True):
        theirs = LogisticRegression(C=1 / (penalty * len(label)), tol=1e-10, max_iter=10_000).fit(inputs, label)
        ours = values @ head[:, :-1].T + head[:, -1]
        np.testing.assert_allclose(centred(ours), centred(theirs.decision_function(inputs)), atol=2e-6)


def test_five_exchanges_are_the_default_and_answer_like_the_solution() -> None:
    made, hospitals = study("logistic,logistic-250")
    few, many = (made.outcome(find_method(name)).heads[""] for name in made.names)
    values, label, _ = pooled(hospitals)
    assert few.facts["exchanges"] == 5 and few.facts["strength"] in PENALTIES
    assert (few.logits(values).argmax(axis=1) == many.logits(values).argmax(axis=1)).mean() > 0.95
    assert (few.logits(values).argmax(axis=1) == label).mean() > 0.9
    tasks = [request.task for request in study_of("logistic-5").asked]
    assert tasks == ["statistics", *["logistic_gradient"] * 5, "validate"]


def study_of(name: str, problem: Problem = ALONE) -> MemoryHospitals:
    made, hospitals = study(name, problem)
    made.outcome(find_method(name))
    return hospitals


@pytest.mark.parametrize("name", ["logistic-0", "logistic-05", "logistic-5-5"])
def test_no_exchanges_are_no_method(name: str) -> None:
    with pytest.raises(ConfigError, match="did you mean 'logistic-5'"):
        find_method(name)


def test_a_class_that_no_hospital_has_is_never_the_answer() -> None:
    sites = [make_site("a", 20, width=8, classes=2), make_site("b", 30, width=8, classes=2)]
    hospitals = MemoryHospitals([replace(site, classes=3) for site in sites])
    for name in ("logistic-5", "auto"):
        made = Study(hospitals, Problem(("x", "y", "z"), "", (("4", 0, 8),)), Settings(), read_methods(name))
        head = made.outcome(find_method(name)).heads[""]
        assert head.bias[2] == ABSENT and not head.weight[2].any() and (head.bias[:2] > ABSENT / 2).all()


def test_auto_is_the_mean_of_both_unless_one_is_clearly_better() -> None:
    made, hospitals = study("auto")
    outcome = made.outcome(find_method("auto"))
    assert len(hospitals.asked) == 8
    facts, values = outcome.facts, pooled(hospitals)[0]
    parts = [made.solved(need) for need in (Candidates("discriminant"), Penalised.after(5))]
    mean = np.mean([log_softmax(values @ part.affine[:, :-1].T + part.affine[:, -1], axis=1) for part in parts], axis=0)
    logits = {"mean": mean} | {
        name: values @ part.affine[:, :-1].T + part.affine[:, -1]
        for name, part in zip(("discriminant", "logistic-5"), parts, strict=True)
    }
    np.testing.assert_allclose(
        log_softmax(outcome.heads[""].logits(values), axis=1), log_softmax(logits[facts["chosen"]], axis=1), atol=1e-9
    )
    gains = facts["gains"]
    assert set(gains) == {"discriminant", "logistic-5"} and set(facts["losses"]) == {"mean", *gains}
    better = [name for name, row in gains.items() if row["gain"] > row["error"]]
    assert facts["chosen"] == (min(better, key=facts["losses"].get) if better else "mean")


def test_the_error_of_a_difference_is_over_patients() -> None:
    """By hand: the weighted difference of all cases of a patient, squared; a case told twice is no second witness."""
    rng = np.random.default_rng(0)
    sites = [make_site(name, cases, width=4, classes=2) for name, cases in (("a", 15), ("b", 24))]
    sites = [replace(site, classes=3, patients=np.arange(len(site.label)) // 2) for site in sites]
    heads, counts = (0.1 * rng.standard_normal((2, 3, 3, 5))).astype(np.float32), np.zeros(3)
    for site in sites:
        counts += np.bincount(site.label, minlength=3)
    weight = np.array([0.5 / counts[0], 0.5 / counts[1], 0.0])
    asked: Arrays = {"heads": heads, "weight": weight}
    told = [answer("compare", site, asked, {}).update.arrays for site in sites]
    losses, squares = np.zeros((3, 3)), np.zeros(3)
    for site in sites:
        logits = np.einsum("nmcd,nd->nmc", heads[site.fold(2)][..., :-1], site.values) + heads[site.fold(2)][..., -1]
        costs = -log_softmax(logits.astype(np.float64), axis=2)[np.arange(len(site.label)), :, site.label]
        apart = (costs[:, :1] - costs) * weight[site.label][:, None]
        losses += costs.T @ np.eye(3)[site.label]
        squares += sum(apart[site.patients == patient].sum(axis=0) ** 2 for patient in set(site.patients.tolist()))
    np.testing.assert_allclose(sum(arrays["losses"] for arrays in told), losses, rtol=1e-6)
    np.testing.assert_allclose(sum(arrays["squares"] for arrays in told), squares, rtol=1e-6, atol=1e-15)
    twice = replace(sites[0], values=np.repeat(sites[0].values, 2, axis=0), label=np.repeat(sites[0].label, 2))
    twice = replace(twice, patients=np.repeat(sites[0].patients, 2))
    again = answer("compare", twice, {**asked, "weight": weight / 2}, {}).update.arrays
    np.testing.assert_allclose(again["squares"], told[0]["squares"], rtol=1e-6, atol=1e-15)


@pytest.mark.parametrize(
    ("problem", "readings"), [(PROBLEM, {"32": "a@32:4", "64": "a@64:4"}), (NETWORKS, {"a": "a:4", "own:b": "own:b:4"})]
)
def test_the_mean_of_all_readings_heads_is_usual_and_weighed_against_the_first_in_the_same_exchanges(
    problem: Problem, readings: dict[str, str]
) -> None:
    made, hospitals = study("auto", problem)
    outcome = made.outcome(find_method("auto"))
    assert len(hospitals.asked) == 8
    facts, needs, first = outcome.facts, dict[str, Candidates](), f"@{next(iter(readings))}"
    for reading, tap in readings.items():
        key = f"{tap}+table:table"
        needs[f"discriminant@{reading}"] = Candidates("discriminant", key)
        needs[f"logistic-5@{reading}"] = Penalised.after(5, key)
    solved = {name: made.solved(need) for name, need in needs.items()}
    assert not solved[f"logistic-5{first}"].affine[:, 12:22].any() and solved[f"logistic-5{first}"].affine[:, :12].all()
    mixed = {"mean": list(solved), f"mean{first}": [name for name in solved if first in name]}
    mixed |= {kind: [name for name in solved if kind in name] for kind in KINDS}
    assert set(facts["losses"]) == set(mixed) and set(facts["gains"]) == set(mixed) - {"mean"}
    assert facts["parts"] == {name: solved[name].facts for name in mixed[facts["chosen"]]}
    affine, values = np.mean([solved[name].affine for name in mixed[facts["chosen"]]], axis=0), pooled(hospitals)[0]
    np.testing.assert_allclose(outcome.heads[""].logits(values), values @ affine[:, :-1].T + affine[:, -1], atol=1e-9)


@pytest.mark.parametrize(("cases", "most"), [(10, 0.12e6), (25, 0.3e6), (90, 0.9e6)])
def test_few_cases_send_few_bytes(cases: int, most: float) -> None:
    """Seven classes at the width of the default features: one message of sums and five of gradients."""
    site = make_site("a", cases, width=696, classes=7)
    heads, fixed = np.zeros((6, 5, 7, 697), np.float32), {"mean": np.zeros(696), "scale": np.ones(696)}
    asked = [("statistics", {}, {"folds": 5})]
    asked += [("logistic_gradient", {**fixed, "offset": np.zeros((6, 7)), "heads": heads}, {"in-rows": True})] * 5
    released = [answer(task, site, arrays, config).update.arrays for task, arrays, config in asked]
    assert sum(array.nbytes for arrays in released for array in arrays.values()) < most
