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
from medtl_core.federation.registry import all_private_tasks, find_method
from medtl_core.federation.tasks import Arrays, Config, SiteData
from medtl_core.methods.private.clipped_gradient import private_gradient
from medtl_core.privacy.bounded import Bounded
from medtl_core.values import Released, Update
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
    with pytest.raises(PrivacyError, match="no number of patients is public"):
        ask(site(tmp_path, simulated=False))
    (tmp_path / "policy.toml").write_text("public_patients = 20")
    with pytest.raises(BudgetError, match="allows 4"):
        for agreement in "bcdefghij":
            for number in (1, 2):
                ask(site(tmp_path, simulated=False, agreement=agreement), round=number)
                paid += 1
    assert paid == 7  # at epsilon 2 a run, nine tenths of it for the two rounds
    (tmp_path / "policy.toml").write_text("max_epsilon = 1.0\npublic_patients = 20")
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
def test_a_case_that_is_not_finite_is_paid_for_like_any_other(tmp_path: Path, value: float) -> None:
    hospital = site(tmp_path)
    hospital.data.values[3, 2] = value
    assert np.isfinite(ask(hospital).update.arrays["gradient"]).all()
    assert book(tmp_path) == ["open", "plan", "reserve", "release"]


@pytest.mark.parametrize(
    "sums",
    [
        ValueError("patient 4711"), MemoryError(), np.full((3, 6), np.nan), np.full((3, 6), 1e300), np.zeros((2, 6)),
        np.zeros(6),
    ],
)  # fmt: skip
def test_sums_that_cannot_be_made_are_zeros_and_the_ledger_shows_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, sums: Exception | np.ndarray
) -> None:
    def broken(data: SiteData, arrays: Arrays, config: Config) -> Bounded:
        if isinstance(sums, Exception):
            raise sums
        return Bounded(Update({"gradient": sums}), {"gradient": 1.0})

    task = replace(all_private_tasks()["private_gradient"], clipped=broken)
    monkeypatch.setattr("client.gate.private_task", lambda name: task)
    released = ask(site(tmp_path))
    noise = released.update.arrays["gradient"]
    assert noise.shape == (3, 6)
    assert 1.0 < np.abs(noise).max() < 100.0
    assert book(tmp_path) == ["open", "plan", "reserve", "release"]  # a record more would be told with the witness
    assert "noise alone is released" in caplog.text


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"gram": False}, "does not know"),
        ({"step": True}, "of type int"),
        ({"round": 1.0}, "of type int"),
        ({"method": 3}, "of type str"),
        ({"mean": None}, "arrays"),
        ({"more": np.zeros(1)}, "arrays"),
        ({"mean": np.zeros((24, 6))}, "not float64"),
        ({"mean": np.zeros((1, 6))}, "not float64"),
        ({"mean": np.zeros(6, np.float32)}, "not float64"),
        ({"mean": np.full(6, np.nan)}, "finite"),
        ({"mean": np.full(6, 1.1e6)}, "finite"),
        ({"scale": np.zeros(6)}, "finite"),
        ({"basis": np.eye(7)[:6]}, "1 to 6 directions"),
        ({"basis": np.zeros((6, 0))}, "1 to 6 directions"),
        ({"basis": np.eye(5)}, "not float64"),
        ({"head": np.zeros((2, 6))}, "not float64"),
        ({"head": np.zeros((3, 5))}, "not float64"),
    ],
)
def test_a_request_that_is_not_what_the_plan_asks_with_is_refused_before_the_ledger_is_opened(
    tmp_path: Path, changes: dict, match: str
) -> None:
    told = {name: value for name, value in changes.items() if isinstance(value, str | int | float)}
    sent = {name: array for name, array in {**ARRAYS, **changes}.items() if isinstance(array, np.ndarray)}
    with pytest.raises(PrivacyError, match=match):
        gate.answered(site(tmp_path), "private_gradient", sent, {**message(), **told})
    assert not (tmp_path / "privacy").exists()
