"""A hospital under privacy: what it refuses, what it charges, and that a repeated message costs nothing."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from client import gate
from client.site import Site
from medtl_core.config import Settings
from medtl_core.errors import BudgetError, PrivacyError
from medtl_core.federation.outcome import Outcome
from medtl_core.federation.private import PrivateMethod, terms_of
from medtl_core.federation.study import Study
from medtl_core.federation.tasks import Arrays, Config, SiteData
from medtl_core.privacy.accounting import mu_for
from medtl_core.privacy.bounded import Bounded
from medtl_core.privacy.patients import by_patient, unit
from medtl_core.privacy.plan import Plan, Step, Terms
from medtl_core.values import Update
from tests.memory import make_site

SETTINGS = Settings(sites=3, shots=20, privacy="made", epsilon=2.0)


def unit_sum(site: SiteData, arrays: Arrays, config: Config) -> Bounded:
    rows = by_patient(unit(site.values.astype(np.float64)), site.label, site.patients).rows
    return Bounded(Update({"sum": rows.sum(axis=0)}), {"sum": 1.0})


@dataclass(frozen=True)
class Made(PrivateMethod):
    syntax: ClassVar[str] = "private-made"
    example: ClassVar[str] = "private-made"

    def plan(self, terms: Terms) -> Plan:
        multiplier = 2**0.5 / mu_for(terms.epsilon, terms.delta)
        return Plan(self.name, terms, (Step("unit_sum", {"sum": multiplier}, {"sum": 1.0}, 2),))

    def outcome(self, study: Study) -> Outcome:
        return Outcome({}, {})


METHOD = Made("private-made")


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "private_task", {"unit_sum": unit_sum}.get)
    monkeypatch.setattr(gate, "find_method", lambda name: METHOD)


def site(folder: Path | None, cases: int = 24, settings: Settings = SETTINGS, simulated: bool = True) -> Site:
    return Site(make_site("north", cases), "a" * 64, settings, simulated, folder)


def message(settings: Settings = SETTINGS, **changes: str | int) -> Mapping[str, str | int]:
    plan = METHOD.plan(terms_of(settings, 6, 3))
    return {"method": "private-made", "step": 0, "round": 1, "plan": plan.digest, **changes}


def ask(where: Site, **changes: str | int) -> np.ndarray:
    return gate.answered(where, "unit_sum", {}, message(where.settings, **changes)).update.arrays["sum"]


def test_a_release_is_noised_counted_and_says_what_it_cost(tmp_path: Path) -> None:
    hospital = site(tmp_path)
    released = gate.answered(hospital, "unit_sum", {}, message())
    exact = unit_sum(hospital.data, {}, {}).update.arrays["sum"]
    assert (released.update.arrays["sum"] != exact).all()
    assert 0 < released.event.epsilon < 2.0
    assert (released.event.mechanism, released.event.delta) == ("private-made", 1e-5)
    assert released.metrics == {}
    second = gate.answered(hospital, "unit_sum", {}, message(round=2))
    assert released.event.epsilon < second.event.epsilon <= 2.0


def test_a_repeated_message_is_answered_with_the_same_bytes(tmp_path: Path) -> None:
    first, again = ask(site(tmp_path)), ask(site(tmp_path))
    assert first.tobytes() == again.tobytes()
    lines = (tmp_path / "privacy" / "private-made" / "ledger.jsonl").read_text().splitlines()
    assert [json.loads(line)["body"]["kind"] for line in lines] == ["open", "plan", "reserve", "release"]
    with pytest.raises(PrivacyError, match="another question"):
        gate.answered(site(tmp_path), "unit_sum", {"centre": np.ones(3)}, message())


def test_two_hospitals_and_two_runs_never_share_noise(tmp_path: Path) -> None:
    first, second = ask(site(tmp_path / "one")), ask(site(tmp_path / "two"))
    assert (first != second).all()


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"round": 3}, "beyond the plan"),
        ({"round": 0}, "beyond the plan"),
        ({"step": 1}, "does not hold"),
        ({"step": -1}, "does not hold"),
        ({"plan": "0" * 64}, "another plan"),
        ({"witness-ledger": "method", "witness-seq": 9, "witness-hash": "0" * 64}, "rolled back"),
        ({"witness-ledger": "method", "witness-seq": 1, "witness-hash": "0" * 64}, "rolled back"),
        ({"witness-ledger": "method", "witness-seq": 9, "witness-hash": "x"}, "64 hexadecimal"),
        ({"witness-ledger": "method", "witness-seq": -1, "witness-hash": "0" * 64}, "number from 1"),
        ({"witness-seq": 9}, "whose the ledger is"),
    ],
)
def test_what_the_agreed_plan_does_not_hold_is_refused(tmp_path: Path, changes: dict, match: str) -> None:
    with pytest.raises(PrivacyError, match=match):
        ask(site(tmp_path), **changes)
    book = tmp_path / "privacy" / "private-made" / "ledger.jsonl"
    assert not book.is_file() or "reserve" not in book.read_text()


def test_a_server_cannot_ask_for_less_noise(tmp_path: Path) -> None:
    generous = SETTINGS.replace(epsilon=50.0)
    with pytest.raises(PrivacyError, match="another plan"):
        gate.answered(site(tmp_path), "unit_sum", {}, message(generous))


def test_the_hospitals_policy_wins(tmp_path: Path) -> None:
    (tmp_path / "policy.toml").write_text("max_epsilon = 1.0")
    with pytest.raises(BudgetError, match="hospital's 1"):
        ask(site(tmp_path, simulated=False))
    (tmp_path / "policy.toml").write_text("minimum_patients = 30")
    with pytest.raises(PrivacyError, match="24 patients"):
        ask(site(tmp_path, simulated=False))


def test_a_deployed_hospital_has_one_budget_for_all_its_runs(tmp_path: Path) -> None:
    for agreement in "bc":
        hospital = Site(make_site("north", 24), agreement * 64, SETTINGS, False, tmp_path)
        ask(hospital), ask(hospital, round=2)
    third = Site(make_site("north", 24), "d" * 64, SETTINGS, False, tmp_path)
    ask(third)
    with pytest.raises(BudgetError, match="hospital allows 4"):
        for agreement in "efghij":
            ask(Site(make_site("north", 24), agreement * 64, SETTINGS, False, tmp_path))


def test_nothing_plain_leaves_a_private_run(tmp_path: Path) -> None:
    for task in ("moments", "statistics", "local", "evaluate"):
        with pytest.raises(PrivacyError, match="private releases only"):
            gate.answered(site(tmp_path), task, {}, {"folds": 2})
    assert gate.public_weight(site(tmp_path)) == 20
    plain = SETTINGS.replace(privacy="none")
    assert gate.public_weight(site(tmp_path, settings=plain)) == 24
    (tmp_path / "policy.toml").write_text("require_private = true")
    with pytest.raises(PrivacyError, match="this hospital's policy"):
        gate.answered(site(tmp_path, settings=plain), "moments", {}, {})


def test_a_hospital_without_a_folder_of_its_own_takes_no_part() -> None:
    with pytest.raises(PrivacyError, match="state-dir"):
        ask(site(None))


@pytest.mark.parametrize("cases", [1, 3, 19])
def test_too_few_patients_take_no_part(tmp_path: Path, cases: int) -> None:
    with pytest.raises(PrivacyError, match="at least 20"):
        ask(site(tmp_path, cases))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_case_that_is_not_finite_releases_nothing(tmp_path: Path, value: float) -> None:
    hospital = site(tmp_path)
    hospital.data.values[3, 2] = value
    with np.errstate(invalid="ignore"), pytest.raises(PrivacyError, match="not finite"):
        ask(hospital)
    book = (tmp_path / "privacy" / "private-made" / "ledger.jsonl").read_text()
    assert "release" not in book


@pytest.mark.parametrize(("shots", "delta"), [(1, 0.0), (20, 0.05), (20, 0.5), (1000, 1e-3)])
def test_a_promise_to_nobody_is_refused(shots: int, delta: float) -> None:
    """delta = 1/n allows publishing one patient whole."""
    with pytest.raises(PrivacyError):
        terms_of(SETTINGS.replace(shots=shots, delta=delta), 6, 3)
