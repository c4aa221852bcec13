"""The contract of every private mechanism: sensitivity, price, and noise that is really there."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2

from medtl_core.errors import BudgetError, PrivacyError
from medtl_core.federation.private import PrivateMethod
from medtl_core.federation.registry import all_methods, all_private_tasks, find_method
from medtl_core.federation.tasks import Config
from medtl_core.privacy import gate
from medtl_core.privacy.accounting import epsilon, mu_for
from medtl_core.privacy.bounded import Bounded
from medtl_core.privacy.noise import insecure_entropy, system_entropy
from medtl_core.privacy.plan import Plan, Step, Terms
from medtl_core.values import Array, Update
from tests.methods.private_made import CLASSES, PATIENTS, SIZE, TERMS, WIDTH, hospital, map_arrays, with_patient

Message = tuple[dict[str, Array], Config]
SEED, COORDINATES = st.integers(0, 2**32 - 1), 20_000
FACTS = Terms(2.0, 1e-5, hospitals=5, colluders=2, cases=30, width=300, classes=3, secure=False)


def centred(rng: np.random.Generator) -> Iterator[Message]:
    for length in (0.0, 0.7, 1e6):  # a noisy centre may lie far from every row
        arrays = {**map_arrays(rng), "centre": length * np.linalg.qr(rng.standard_normal((SIZE, SIZE)))[0][0]}
        yield from ((arrays, {"gram": gram}) for gram in (False, True))


def headed(rng: np.random.Generator) -> Iterator[Message]:
    for length in (0.0, 1.0, 1e3):
        yield {**map_arrays(rng), "head": length * rng.standard_normal((CLASSES, SIZE))}, {}


def joint(rng: np.random.Generator, length: float | None = None) -> Iterator[Message]:
    """Two modalities of half of the features each; with a centre of a length, and a Gram matrix or none."""
    half, sides = WIDTH // 2, np.repeat([0.0, 1.0], SIZE // 2)
    of = np.repeat([0.0, 1.0], half)
    arrays = {**map_arrays(rng), "of": of, "part": sides, "absent": np.zeros(WIDTH)}
    arrays["basis"] = arrays["basis"] * (of[:, None] == sides)
    if length is None:
        yield arrays, {}
    else:
        centre = length * np.linalg.qr(rng.standard_normal((SIZE, SIZE)))[0][0]
        yield from (({**arrays, "centre": centre}, {"gram": gram}) for gram in (False, True))


#: Private task -> messages it may be sent. A new task needs a line here.
MESSAGES: Mapping[str, Callable[[np.random.Generator], Iterator[Message]]] = {
    "private_mean": lambda rng: iter([(map_arrays(rng), {})]),
    "private_sums": centred,
    "private_statistics": lambda rng: iter([(map_arrays(rng), {})]),
    "private_counts": lambda rng: iter([(map_arrays(rng), {})]),
    "private_gradient": headed,
    "private_joint_mean": joint,
    "private_joint_sums": lambda rng: (one for length in (0.0, 0.7, 1e6) for one in joint(rng, length)),
}
#: Private tasks that read images: `test_private_finetune` holds them to the same.
DEEPER = {"private_block"}
#: A name of every form of every private method.
NAMES = (
    "private-mean", "private-mean-8", "private-prototypes",
    "private-prototypes-32-cosine", "private-auto", "private-gradient", "private-gradient-3", "private-gradient-200",
    "private-finetune-last-3", "private-finetune-last2-40", "private-fusion",
)  # fmt: skip


def method_of(name: str) -> PrivateMethod:
    found = find_method(name)
    assert isinstance(found, PrivateMethod)
    return found


def moved(one: Bounded, other: Bounded) -> dict[str, float]:
    """By how much two sums differ, in units of what is allowed."""
    assert dict(one.sensitivity) == dict(other.sensitivity)
    far = {name: np.linalg.norm(one.update.arrays[name] - other.update.arrays[name]) for name in one.sensitivity}
    return {name: float(length / one.sensitivity[name]) for name, length in far.items()}


def test_every_private_task_and_method_is_under_contract() -> None:
    assert set(MESSAGES) | DEEPER == set(all_private_tasks())
    private = {kind for kind in all_methods() if issubclass(kind, PrivateMethod)}
    assert {type(method_of(name)) for name in NAMES} == private
    assert all(kind.test == "server" for kind in private)


@pytest.mark.parametrize("task", MESSAGES)
@settings(max_examples=30, deadline=None)
@given(seed=SEED, patients=st.integers(0, 12), cases=st.integers(1, 5), kind=st.sampled_from([*PATIENTS]))
def test_one_patient_moves_a_sum_by_its_sensitivity_at_most(
    task: str, seed: int, patients: int, cases: int, kind: str
) -> None:
    rng = np.random.default_rng(seed)
    if not patients:
        kind = "ordinary"  # there is nobody to copy
    without = hospital(patients, rng)
    with_ = with_patient(without, kind, cases, rng, name="a-new-one" if seed % 2 else "zz-last")
    for arrays, config in MESSAGES[task](rng):
        pair = (all_private_tasks()[task](site, arrays, config) for site in (without, with_))
        assert all(share <= 1 + 1e-6 for share in moved(*pair).values()), kind


@pytest.mark.parametrize("task", MESSAGES)
def test_the_sensitivity_is_no_larger_than_it_has_to_be(task: str) -> None:
    """Within a factor of two some patient uses it up: noise is not wasted, and the bound is of the right array."""
    rng, used = np.random.default_rng(3), dict[str, float]()
    for _ in range(60):
        without = hospital(6, rng)
        with_ = with_patient(without, str(rng.choice([*PATIENTS])), 1, rng)
        for arrays, config in MESSAGES[task](rng):
            pair = (all_private_tasks()[task](site, arrays, config) for site in (without, with_))
            for name, share in moved(*pair).items():
                used[name] = max(share, used.get(name, 0.0))
        if min(used.values()) >= 0.5:
            break
    assert all(share >= 0.5 for share in used.values()), used


@pytest.mark.parametrize("task", MESSAGES)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_case_that_is_not_finite_changes_no_other_patients_part(task: str, value: float) -> None:
    rng = np.random.default_rng(0)
    whole = hospital(6, rng)
    others = whole.patients != "p2"
    some = {name: getattr(whole, name)[others] for name in ("values", "label", "patients")}
    rest = replace(whole, **some)
    whole.values[~others, 1] = value
    for arrays, config in MESSAGES[task](rng):
        pair = [all_private_tasks()[task](site, arrays, config) for site in (whole, rest)]
        assert all(np.isfinite(array).all() for array in pair[0].update.arrays.values())
        assert all(share <= 1 + 1e-6 for share in moved(*pair).values())


@pytest.mark.parametrize("task", MESSAGES)
def test_what_a_task_gives_is_what_it_declares_whoever_the_patients_are(task: str) -> None:
    rng, declared = np.random.default_rng(1), all_private_tasks()[task]
    sizes = {"k": SIZE, "c": CLASSES, "1": 1, "g": SIZE * (SIZE + 1) // 2}
    for patients in (0, 1, 7):
        for arrays, config in MESSAGES[task](rng):
            given = declared(hospital(patients, rng), arrays, config).update.arrays
            assert list(given) == [name for name in declared.sums if name in given]  # noise is drawn in this order
            for name, array in given.items():
                assert array.shape == tuple(sizes[axis] for axis in declared.sums[name])


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=40, deadline=None)
@given(terms=TERMS)
def test_a_plan_costs_at_most_its_promise_and_is_the_same_on_both_sides(name: str, terms: Terms) -> None:
    plan = method_of(name).plan(terms)
    spent = epsilon(plan.events, terms.delta)
    assert (1 - 1e-6) * terms.epsilon <= spent <= terms.epsilon
    again = method_of(name).plan(terms)  # made anew, as at the hospital
    assert again == plan
    assert again.digest == plan.digest
    for step in plan.steps:
        assert step.task in {*MESSAGES, *DEEPER}
        assert step.noise.keys() == step.sensitivity.keys()
        assert all(math.isfinite(value) and value > 0 for value in (*step.noise.values(), *step.sensitivity.values()))
        assert step.sampling == 1.0
        gate.check(gate.Demand(plan, plan.steps.index(step), step.count, plan.digest))


@pytest.mark.parametrize("name", NAMES)
def test_other_public_facts_are_another_plan(name: str) -> None:
    digests = {method_of(name).plan(FACTS).digest}
    for changed in (
        {"epsilon": 3.9}, {"delta": 1e-6}, {"hospitals": 6}, {"colluders": 1}, {"cases": 31}, {"width": 41},
        {"classes": 4}, {"secure": True},
    ):  # fmt: skip
        digests.add(method_of(name).plan(replace(FACTS, **changed)).digest)
    assert len(digests) == 9


def blank(step: Step) -> Bounded:
    """A sum of nothing: whatever leaves is noise."""
    return Bounded(Update({name: np.zeros(COORDINATES) for name in step.sensitivity}), dict(step.sensitivity))


def check_deviation(noise: np.ndarray, promised: float) -> None:
    """Chi-square; a deviation three per cent too small or too large is at least four standard errors away."""
    statistic = float((noise**2).sum()) / promised**2
    assert 1e-5 < float(chi2.cdf(statistic, noise.size)) < 1 - 1e-5, math.sqrt(statistic / noise.size)
    assert abs(float(noise.mean())) < 5 * promised / math.sqrt(noise.size)


@pytest.mark.parametrize("secure", [False, True])
@pytest.mark.parametrize("name", ["private-mean", "private-auto", "private-gradient-3"])
def test_what_leaves_has_the_noise_of_the_plan(name: str, secure: bool) -> None:
    plan, entropy = method_of(name).plan(replace(FACTS, secure=secure)), insecure_entropy(7)
    for number, step in enumerate(plan.steps):
        sums = [gate.unscaled(gate.noised(blank(step), plan, number, entropy), step) for _ in range(3 if secure else 1)]
        widened = 1.0 + gate.GRID * math.sqrt(COORDINATES)
        for key in step.noise:  # of K = 5 hospitals t = 2 may know their own noise: three shares are a whole
            promised = step.noise[key] * step.sensitivity[key] * widened
            check_deviation(np.sum([one[key] for one in sums], axis=0), promised)


@pytest.mark.parametrize(
    ("name", "value", "sensitivity"),
    [
        ("sums", 0.0, 2.0), ("sum", 0.0, 1.0), *(("sums", value, 1.0) for value in (np.nan, np.inf, -np.inf)),
        *(("sums", value, 1.0) for value in (2.0**35, -(2.0**35), 1e300)),
    ],
)  # fmt: skip
def test_the_gate_refuses_what_the_plan_does_not_price_and_what_leaves_the_fixed_point(
    name: str, value: float, sensitivity: float
) -> None:
    plan = Plan("private-x", FACTS, (Step("x", {"sums": 3.0}, {"sums": 1.0}),))
    largest = (gate.RANGE * gate.GRID - 1) / FACTS.hospitals
    gate.noised(Bounded(Update({"sums": np.array([0.0, largest])}), {"sums": 1.0}), plan, 0, system_entropy())
    with pytest.raises(PrivacyError):
        gate.noised(Bounded(Update({name: np.array([0.0, value])}), {name: sensitivity}), plan, 0, system_entropy())


def test_a_plan_that_costs_more_than_it_promises_opens_no_gate() -> None:
    for step in (
        Step("x", {"sums": 1 / mu_for(1.9, 1e-5)}, {"sums": 1.0}, count=2),
        Step("x", {"sums": 0.5}, {"sums": 1.0}),
    ):
        plan = Plan("private-x", FACTS, (step,))
        with pytest.raises(BudgetError, match="promises 2"):
            gate.check(gate.Demand(plan, 0, 1, plan.digest))


@pytest.mark.parametrize("changes", [{"sampling": 0.5}, {"inner": 2}])
def test_a_plan_that_counts_on_what_no_release_does_opens_no_gate(changes: dict[str, float]) -> None:
    plan = Plan("private-x", FACTS, (Step("x", {"sums": 100.0}, {"sums": 1.0}, **changes),))  # type: ignore[arg-type]
    with pytest.raises(PrivacyError, match="sampling"):
        gate.check(gate.Demand(plan, 0, 1, plan.digest))
