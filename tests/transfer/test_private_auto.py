"""The choice of a private mechanism reads public facts only; its rule in literals."""

import pytest

from medtl_core.privacy.plan import Terms
from medtl_core.transfer.private_auto import PrivateAuto, signal
from medtl_core.transfer.prototypes import Prototypes
from tests.transfer.exact_hospitals import exact_study

AUTO = PrivateAuto("private-auto")


def terms(epsilon: float, hospitals: int, cases: int, secure: bool, width: int = 464, classes: int = 7) -> Terms:
    return Terms(epsilon, 1e-5, hospitals, 1, cases, width, classes, secure)


@pytest.mark.parametrize(
    ("facts", "amount", "size", "cosine"),
    [
        (terms(4.0, 10, 90, True), 298.3, 100, False),
        (terms(1.0, 10, 90, True), 86.5, 56, False),
        (terms(1.0, 10, 90, False), 28.8, 19, True),
        (terms(1.0, 5, 30, True), 13.6, 16, True),
    ],
)
def test_the_rule(facts: Terms, amount: float, size: int, cosine: bool) -> None:
    assert signal(facts) == pytest.approx(amount, abs=0.2)
    assert AUTO.chosen(facts) == Prototypes("private-auto", size, cosine)


def test_a_table_keeps_half_as_many_columns_again_under_the_same_plan() -> None:
    facts = terms(1.0, 10, 90, False)
    table = AUTO.chosen(facts, ordered=False)
    assert table == Prototypes("private-auto", 35, True)
    assert table.plan(facts) == AUTO.plan(facts)


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
