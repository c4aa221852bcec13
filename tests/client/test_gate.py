"""A hospital under privacy: what it refuses, what it charges, and that a repeated message costs nothing."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from client import gate
from client.site import Site
from medtl_core.config import Settings
from medtl_core.errors import BudgetError, PrivacyError
from medtl_core.federation.private import terms_of
from medtl_core.federation.registry import find_method
from medtl_core.methods.private.clipped_gradient import private_gradient
from medtl_core.values import Released
from tests.memory import make_site

METHOD = "private-gradient-2"
SETTINGS = Settings(sites=3, shots=20, privacy="auto", epsilon=2.0)
ARRAYS = {"mean": np.zeros(6), "scale": np.ones(6), "basis": np.eye(6), "head": np.zeros((3, 6))}


def site(folder: Path, settings: Settings = SETTINGS, simulated: bool = True, agreement: str = "a") -> Site:
    return Site(make_site("north", 24), agreement * 64, settings, simulated, folder)


def message(settings: Settings = SETTINGS, **changes: str | int) -> Mapping[str, str | int]:
    plan = find_method(METHOD).plan(terms_of(settings, 6, 3))  # type: ignore[attr-defined]
    return {"method": METHOD, "step": 1, "round": 1, "plan": plan.digest, **changes}


def ask(where: Site, **changes: str | int) -> Released:
    return gate.answered(where, "private_gradient", ARRAYS, message(where.settings, **changes))


def book(folder: Path) -> list[str]:
    """The kinds of the records of a simulated hospital's ledger."""
    path = folder / "privacy" / METHOD / "ledger.jsonl"
    lines = path.read_text().splitlines() if path.is_file() else []
    return [json.loads(line)["body"]["kind"] for line in lines]


def test_a_release_is_noised_counted_and_says_what_it_cost(tmp_path: Path) -> None:
    hospital = site(tmp_path)
    released, second = ask(hospital), ask(hospital, round=2)
    exact = private_gradient(hospital.data, ARRAYS, {}).update.arrays["gradient"]
    assert (released.update.arrays["gradient"] != exact).all()
    assert (released.event.mechanism, released.event.delta) == (METHOD, 1e-5)
    assert 0 < released.event.epsilon < second.event.epsilon <= 2.0
    assert released.metrics == {}


def test_a_repeated_message_is_answered_with_the_same_bytes(tmp_path: Path) -> None:
    first, again, elsewhere = (ask(site(tmp_path / name)).update.arrays["gradient"] for name in ("one", "one", "two"))
    assert first.tobytes() == again.tobytes()
    assert (first != elsewhere).all()
    assert book(tmp_path / "one") == ["open", "plan", "reserve", "release"]
    with pytest.raises(PrivacyError, match="another question"):
        gate.answered(site(tmp_path / "one"), "private_gradient", {**ARRAYS, "head": np.ones((3, 6))}, message())


def test_noise_of_a_tests_stream_is_noted_in_the_ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = replace(gate.system_entropy(), marked=True)
    monkeypatch.setattr(gate, "system_entropy", lambda: stream)
    ask(site(tmp_path))
    assert sorted(book(tmp_path)) == ["note", "open", "plan", "release", "reserve"]


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"round": 3}, "beyond the plan"),
        ({"round": 0}, "beyond the plan"),
        ({"step": 0}, "does not hold"),
        ({"step": 2}, "does not hold"),
        ({"step": -1}, "does not hold"),
        ({"plan": "0" * 64}, "another plan"),
        (message(SETTINGS.replace(epsilon=50.0)), "another plan"),  # a server cannot ask for less noise
        ({"witness-ledger": "method", "witness-seq": 9, "witness-hash": "0" * 64}, "rolled back"),
        ({"witness-ledger": "method", "witness-seq": 1, "witness-hash": "0" * 64}, "rolled back"),
        ({"witness-ledger": "method", "witness-seq": 9, "witness-hash": "x"}, "64 hexadecimal"),
        ({"witness-seq": 9}, "whose the ledger is"),
    ],
)
def test_what_the_agreed_plan_does_not_hold_is_refused(tmp_path: Path, changes: dict, match: str) -> None:
    with pytest.raises(PrivacyError, match=match):
        ask(site(tmp_path), **changes)
    assert "reserve" not in book(tmp_path)


def test_a_deployed_hospital_has_one_policy_and_one_budget_for_all_its_runs(tmp_path: Path) -> None:
    paid = 0
    with pytest.raises(BudgetError, match="allows 4"):
        for agreement in "bcdefghij":
            for number in (1, 2):
                ask(site(tmp_path, simulated=False, agreement=agreement), round=number)
                paid += 1
    assert paid == 7  # at epsilon 2 a run, nine tenths of it for the two rounds
    (tmp_path / "policy.toml").write_text("max_epsilon = 1.0")
    with pytest.raises(BudgetError, match="hospital's 1"):
        ask(site(tmp_path, simulated=False))


def test_nothing_plain_leaves_a_private_run(tmp_path: Path) -> None:
    for task in ("moments", "statistics", "local", "evaluate"):
        with pytest.raises(PrivacyError, match="private releases only"):
            gate.answered(site(tmp_path), task, {}, {"folds": 2})
    assert gate.public_weight(site(tmp_path)) == 20
    plain = SETTINGS.replace(privacy="none")
    assert gate.public_weight(site(tmp_path, plain)) == 24
    (tmp_path / "policy.toml").write_text("require_private = true")
    with pytest.raises(PrivacyError, match="this hospital's policy"):
        gate.answered(site(tmp_path, plain), "moments", {}, {})


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_case_that_is_not_finite_releases_nothing(tmp_path: Path, value: float) -> None:
    hospital = site(tmp_path)
    hospital.data.values[3, 2] = value
    with np.errstate(invalid="ignore"), pytest.raises(PrivacyError, match="not finite"):
        ask(hospital)
    assert "release" not in book(tmp_path)
