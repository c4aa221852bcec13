"""The choice of a private mechanism reads public facts only; its rule in literals."""

import pytest

from medtl_core.privacy.plan import Terms
from medtl_core.transfer.private_auto import PrivateAuto, strength
from medtl_core.transfer.prototypes import Prototypes
from tests.transfer.exact_hospitals import exact_study

AUTO = PrivateAuto("private-auto")


def terms(epsilon: float, hospitals: int, cases: int, secure: bool, width: int = 464, classes: int = 7) -> Terms:
    return Terms(epsilon, 1e-5, hospitals, 1, cases, width, classes, secure)


@pytest.mark.parametrize(
    ("facts", "signal", "size", "cosine"),
    [
        (terms(4.0, 10, 90, True), 2.98, 100, False),
        (terms(4.0, 10, 90, False), 0.99, 100, True),
        (terms(1.0, 10, 90, True), 0.86, 100, True),
        (terms(1.0, 10, 90, False), 0.29, 32, True),
        (terms(1.0, 5, 30, True), 0.13, 32, True),
        (terms(4.0, 10, 90, True, width=16), 18.65, 100, False),  # a table has few directions anyway
    ],
)
def test_the_rule(facts: Terms, signal: float, size: int, cosine: bool) -> None:
    assert strength(facts) == pytest.approx(signal, abs=0.006)
    assert AUTO.chosen(facts) == Prototypes("private-auto", size, cosine)


def test_the_plan_is_that_of_the_chosen_prototypes_under_its_own_name() -> None:
    facts = terms(1.0, 10, 90, False)
    plan = AUTO.plan(facts)
    assert plan == AUTO.chosen(facts).plan(facts)
    assert plan.mechanism == "private-auto"
    assert ["gram" in step.noise for step in plan.steps] == [False, False]


def test_the_choice_is_made_before_any_hospital_is_asked() -> None:
    study = exact_study("private-auto")
    AUTO.outcome(study)
    tasks = [request.task for request in study.hospitals.asked]  # type: ignore[attr-defined]
    assert tasks == ["private_mean", "private_sums"]
    assert study.hospitals.asked[1].config["gram"] is True  # type: ignore[attr-defined]
