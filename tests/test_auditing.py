"""`medtl audit` on one made-up hospital: every attack, on private heads and on heads without privacy."""

import json
import sys
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest

from medtl_core.audit import command as auditing
from medtl_core.audit.attacks import canaries, noise_finding, one_run_finding, trials_of, two_run_findings
from medtl_core.audit.canary import Trial
from medtl_core.audit.disclosure import (
    leak_plain,
    leak_private,
    lonely,
    membership_finding,
    membership_plain,
    membership_private,
)
from medtl_core.audit.finding import FALSE, STANDS, Finding
from medtl_core.audit.membership import Membership, most_auc
from medtl_core.audit.site import PLAIN, Hospital, Rehearsal, Watched, exposed, open_hospital, rehearsal
from medtl_core.cli import app as cli
from medtl_core.config import Settings
from medtl_core.errors import ConfigError, DataError, PrivacyError
from medtl_core.federation.hospitals import Request
from medtl_core.federation.outcome import Problem
from medtl_core.federation.private import PrivateMethod
from medtl_core.federation.registry import find_method
from medtl_core.federation.tasks import SiteData
from medtl_core.privacy.noise import insecure_entropy
from medtl_core.report.terminal import AUDIT_REMARK, audit_table, planted_lines
from medtl_core.rng import stream

WIDTH, CLASSES, PATIENTS = 60, 3, 40


def hospital(epsilon: float = 3.0, seed: int = 0) -> Hospital:
    """Patients of one to two cases; the map of a table is the identity, so no image is needed."""
    rng = stream(seed, "audit")
    names = np.concatenate([np.arange(PATIENTS), np.arange(0, PATIENTS, 3)])
    label = names % CLASSES
    values = 0.6 * np.eye(WIDTH)[label] + 0.3 * rng.standard_normal((len(names), WIDTH))
    nobody = (np.zeros((0, WIDTH), np.float32), np.zeros(0, np.int64), np.zeros(0, str))
    site = SiteData("one", values.astype(np.float32), label, names.astype(str), *nobody, CLASSES, seed)
    chosen = Settings(backbone="table", sites=1, colluders=0, public_cases=PATIENTS, epsilon=epsilon, seed=seed)
    problem = Problem(("a", "b", "c"), "features", (("table", 0, WIDTH),))
    return Hospital(site, problem, chosen, insecure_entropy(seed + 1))


def method(name: str) -> PrivateMethod:
    found = find_method(name)
    assert isinstance(found, PrivateMethod)
    return found


def rehearsed(name: str, epsilon: float = 3.0) -> tuple[Rehearsal, Hospital]:
    one = hospital(epsilon)
    return rehearsal(method(name), one), one


SUMS = ("private-auto", "private-mean", "private-prototypes", "private-gradient-3")


@pytest.mark.parametrize("name", SUMS)
def test_the_real_method_stays_within_its_claim(name: str) -> None:
    part, one = rehearsed(name)
    plan, asked = one.plan(part.method), part.run(one)[0].asked
    trials = trials_of(one, plan, asked)
    assert len(asked) == sum(step.count for step in plan.steps)
    findings = [
        noise_finding(plan, trials, one.entropy),
        *two_run_findings(trials, plan, 400 if name == "private-prototypes" else 2000),
        one_run_finding(part, one, asked, plan),
    ]
    assert [finding.held for finding in findings] == [True] * len(findings)
    assert findings[-2].numbers["claim"] == pytest.approx(3.0, rel=1e-6)
    assert {finding.test for finding in findings} >= {"noise", "two runs: all releases", "one run"}
    assert findings[0].numbers["short_p"] < 1e-6
    planted = next(finding.planted for finding in findings if len(finding.planted) == 4)
    assert all(words.endswith(", found") for bug, words in planted.items() if bug != "half noise")


def test_half_noise_in_the_real_method_is_found() -> None:
    part, one = rehearsed("private-mean", 4.0)
    plan = one.plan(part.method)
    findings = two_run_findings(trials_of(one, plan, part.run(one)[0].asked), plan, 6000)
    assert findings[0].planted["half noise"].endswith("claimed 4, found")


def test_a_gate_with_too_little_noise_is_called_false() -> None:
    part, one = rehearsed("private-mean", 4.0)
    plan = one.plan(part.method)
    loose = replace(one, settings=one.settings.replace(epsilon=12.0)).plan(part.method)

    def careless(trial: Trial) -> Trial:
        """The gate obeys a looser plan than the one that is claimed."""
        return replace(trial, noising=lambda block: lambda sums, _, step: trial.noising(block)(sums, loose, step))

    trials = [careless(trial) for trial in trials_of(one, plan, part.run(one)[0].asked)]
    findings = two_run_findings(trials, plan, 6000)
    assert [finding.held for finding in findings] == [False, False]
    assert {finding.verdict for finding in findings} == {FALSE}


def test_the_patient_at_stake_is_the_one_who_shows_most() -> None:
    part, one = rehearsed("private-mean")
    asked = part.run(one)[0].asked[0]
    shown = exposed(one, asked, {"counts": 1.0, "sums": 1.0})
    assert shown.shape == (PATIENTS,)
    alone = np.unique(one.site.patients[PATIENTS:])  # two cases: their mean is shorter than one
    order = np.unique(one.site.patients)
    assert shown[np.isin(order, alone)].max() < shown[~np.isin(order, alone)].min() + 1e-12
    assert shown.max() == pytest.approx(2.0)  # one in the counts, a row of length one in the sums


def test_canaries_lie_along_directions_and_classes() -> None:
    part, one = rehearsed("private-mean")
    asked = part.run(one)[0].asked[0]
    name, parts = canaries(part, one, asked, one.plan(part.method))
    assert name == "sums"
    np.testing.assert_allclose(parts, np.eye(CLASSES * WIDTH), atol=1e-9)


def test_membership_with_and_without_privacy() -> None:
    part, one = rehearsed("private-mean")
    plain, private = membership_plain("discriminant", one, 32), membership_private(part, one, 32)
    most = private.numbers["most"]
    assert plain.held is None and plain.numbers["low"] > 0.6
    assert private.held is True and private.numbers["low"] <= most
    assert private.numbers["auc"] < plain.numbers["auc"]


@pytest.mark.parametrize("name", PLAIN)
def test_every_plain_head_can_be_attacked(name: str) -> None:
    assert membership_plain(name, hospital(), 16).numbers["auc"] > 0.5


def test_an_attack_above_the_bound_is_called_false() -> None:
    found = membership_finding("x", Membership(0.9, 0.85, 0.95, 0.5, 0.4, 64, 60), 0.5)
    assert (found.held, found.verdict, found.claim) == (False, FALSE, f"AUC <= {most_auc(0.5):.3f}")
    assert membership_finding("x", Membership(0.6, 0.55, 0.65, 0.0, 0.0, 64, 60), 0.5).verdict == STANDS


def test_the_leak_works_without_privacy() -> None:
    found = leak_plain(hospital()).numbers
    assert found["counts_exact"] is True
    assert min(found["cosines"]) > 0.999


@pytest.mark.parametrize("name", SUMS)
def test_the_leak_fails_under_privacy(name: str) -> None:
    found = leak_private(*rehearsed(name)).numbers
    assert abs(found["mean_cosine"]) < 0.2


def test_the_lonely_hospital_has_one_case_in_its_rarest_class() -> None:
    one, rarest = lonely(hospital())
    assert np.bincount(one.site.label)[rarest] == 1
    assert len(one.site.label) < PATIENTS + 14


def test_a_table_is_opened_whole_patients_and_all(tmp_path: Any) -> None:
    rows = ["patient_id,site,split,label,x,y"]
    rows += [f"p{n // 2},north,train,{'ab'[n // 2 % 2]},{n * 0.1},{-n}" for n in range(60)]
    (tmp_path / "manifest.csv").write_text("\n".join(rows))
    opened = open_hospital({"data": "", "data-path": str(tmp_path)}, ["backbone=table"], 20, insecure_entropy(0))
    assert len(opened.site.label) == 20
    assert opened.settings.public_cases == opened.patients == len(np.unique(opened.site.patients)) >= 10
    with pytest.raises(DataError, match="too few for an audit"):
        open_hospital({"data": "", "data-path": str(tmp_path)}, ["backbone=table"], 6, insecure_entropy(0))
    with pytest.raises(ConfigError, match="one hospital"):
        open_hospital({"data": "phantom"}, ["secure-sum=true"], 20, insecure_entropy(0))


def test_what_releases_no_sums_is_refused() -> None:
    one = hospital()
    with pytest.raises(PrivacyError, match="not a private sum"):
        next(Watched(one, one.plan(method("private-mean"))).ask(Request("moments", config={"step": 0})))


@pytest.mark.parametrize("name", ["fedavg-5", "logistik"])
def test_what_cannot_be_audited_is_refused(name: str) -> None:
    with pytest.raises(ConfigError):
        auditing.audit(auditing.Order(method=name))


@pytest.mark.parametrize(("name", "rows"), [("private-mean", 8), ("logistic", 2)])
def test_a_whole_audit_is_json_and_a_table(monkeypatch: pytest.MonkeyPatch, name: str, rows: int) -> None:
    monkeypatch.setattr(auditing, "open_hospital", lambda *given: hospital())
    found = auditing.audit(auditing.Order(method=name, epsilon=3.0, heads=16, runs=500))
    assert json.loads(json.dumps(found))["patients"] == PATIENTS
    assert len(found["findings"]) == audit_table(found).row_count == rows
    assert found["delta"] == (1e-5 if name == "private-mean" else None)
    assert len(planted_lines(found)) == (6 if name == "private-mean" else 0)


@pytest.mark.parametrize(("held", "code"), [(True, 0), (None, 0), (False, 1)])
@pytest.mark.parametrize("form", [[], ["--json"]])
def test_the_command_fails_on_a_false_claim(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], held: bool | None, code: int, form: list[str]
) -> None:
    asked = []

    def audit(order: auditing.Order) -> dict[str, Any]:
        asked.append(order)
        finding = Finding("noise", "tried it", "p > 0.001", "p = 0.5", "a verdict", held, {"no noise": "found"})
        return {"findings": [asdict(finding)]}

    monkeypatch.setattr(auditing, "audit", audit)
    monkeypatch.setattr(sys, "argv", ["medtl", "audit", "--epsilon", "2", "--set", "backbone=table", *form])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert (stopped.value.code or 0) == code
    assert asked == [auditing.Order(assignments=["backbone=table"], epsilon=2.0)]
    shown = capsys.readouterr().out
    if form:
        assert json.loads(shown)["findings"][0]["verdict"] == "a verdict"
    else:
        assert "a verdict" in shown and "planted in noise: no noise: found" in shown and AUDIT_REMARK in shown
