"""The choice of a private mechanism reads public facts only; its rule in literals."""

import pytest

from medtl_core.config import settings
from medtl_core.methods.private.auto import PrivateAuto, share_of, signal
from medtl_core.methods.private.prototypes import Prototypes
from medtl_core.privacy.plan import Terms
from tests.methods.exact_hospitals import exact_study

AUTO = PrivateAuto("private-auto")


def terms(epsilon: float, hospitals: int, cases: int, secure: bool, width: int = 464, classes: int = 7) -> Terms:
    return Terms(epsilon, 1e-5, hospitals, 1, cases, width, classes, secure)


@pytest.mark.parametrize(
    ("facts", "amount", "size", "cosine"),
    [
        (terms(4.0, 10, 90, True), 298.3, 100, False),
        (terms(1.0, 10, 90, True), 86.5, 35, False),
        (terms(1.0, 10, 60, True), 57.7, 23, False),
        (terms(1.0, 10, 50, True), 48.0, 19, True),
        (terms(1.0, 5, 30, True), 13.6, 16, True),
    ],
)
def test_the_rule(facts: Terms, amount: float, size: int, cosine: bool) -> None:
    assert signal(facts) == pytest.approx(amount, abs=0.2)
    assert AUTO.chosen(facts) == Prototypes("private-auto", size, cosine)


@pytest.mark.parametrize(
    ("changes", "size"),
    [({}, 19), ({"public-images": "own/folder"}, 58), ({"backbone": "table", "data": "heart_uci"}, 100)],
)
def test_where_the_directions_come_from_changes_their_number_and_not_the_plan(
    changes: dict[str, str], size: int
) -> None:
    facts = terms(1.0, 10, 50, True)
    chosen = AUTO.chosen(facts, share_of(settings({"data": "phantom", **changes})))
    assert chosen == Prototypes("private-auto", size, True)
    assert chosen.plan(facts) == AUTO.plan(facts)


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
