"""`medtl audit` on one made-up hospital: every attack, on private heads and on heads without privacy."""

import json
import sys
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medtl_core.audit import command
from medtl_core.audit.finding import FALSE, STANDS, Finding
from medtl_core.audit.membership import PLAIN, membership_finding, most_auc
from medtl_core.audit.site import AuditedSite, open_hospital
from medtl_core.audit.trial import BUGS, Trial, trials_of, two_run_findings
from medtl_core.cli import app as cli
from medtl_core.config import Settings
from medtl_core.errors import ConfigError, DataError, PrivacyError
from medtl_core.federation.hospitals import Request
from medtl_core.federation.outcome import Problem
from medtl_core.federation.private import PrivateMethod
from medtl_core.federation.registry import find_method
from medtl_core.federation.tasks import SiteData
from medtl_core.privacy.noise import insecure_entropy
from medtl_core.privacy.plan import Plan
from medtl_core.report.terminal import AUDIT_REMARK, audit_table, planted_lines
from medtl_core.rng import stream

WIDTH, CLASSES, PATIENTS = 20, 3, 40


def hospital() -> AuditedSite:
    """Patients of one to two cases; the map of a table is the identity, so no image is needed."""
    rng = stream(0, "audit")
    names = np.concatenate([np.arange(PATIENTS), np.arange(0, PATIENTS, 3)])
    label = names % CLASSES
    values = 0.6 * np.eye(WIDTH)[label] + 0.3 * rng.standard_normal((len(names), WIDTH))
    nobody = (np.zeros((0, WIDTH), np.float32), np.zeros(0, np.int64), np.zeros(0, str))
    data = SiteData("one", values.astype(np.float32), label, names.astype(str), *nobody, CLASSES, 0)
    chosen = Settings(backbone="table", sites=1, colluders=0, public_cases=PATIENTS, epsilon=3.0)
    problem = Problem(("a", "b", "c"), "features", (("table", 0, WIDTH),))
    return AuditedSite(data, problem, chosen, insecure_entropy(1))


@cache
def audited(name: str) -> tuple[PrivateMethod, Plan, list[Trial]]:
    method, site = find_method(name), hospital()
    assert isinstance(method, PrivateMethod)
    return method, site.plan(method), trials_of(site, site.plan(method), site.run(method)[0])


def whole(monkeypatch: pytest.MonkeyPatch, **order: Any) -> dict[str, Any]:
    """The command's whole answer on the made-up hospital."""
    monkeypatch.setattr(command, "open_hospital", lambda *given: hospital())
    return command.audit(command.AuditOrder(epsilon=3.0, heads=16, **order), {})


@pytest.mark.parametrize("name", ["private-auto", "private-mean", "private-prototypes", "private-gradient-3"])
def test_a_real_method_stays_within_its_claim_and_bugs_do_not(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    answer = json.loads(json.dumps(whole(monkeypatch, method=name, runs=2000)))
    findings = {finding["test"]: finding for finding in answer["findings"]}
    assert answer["patients"] == PATIENTS and answer["delta"] == 1e-5
    assert audit_table(answer).row_count == len(findings) == 4 + len(audited(name)[1].steps)
    plain = findings.pop("membership: discriminant")
    assert plain["held"] is None and plain["numbers"]["low"] > 0.6
    assert [finding["held"] for finding in findings.values()] == [True] * len(findings)
    assert findings["two runs: all releases"]["numbers"]["claim"] == pytest.approx(3.0, rel=1e-6)
    assert findings["noise"]["numbers"]["short_p"] < 1e-6
    planted = planted_lines(answer)
    assert len(planted) == 1 + len(BUGS)
    assert all(line.endswith(", found") for line in planted if "half noise" not in line)
    private = findings[f"membership: {name}"]["numbers"]
    assert private["low"] <= private["most"] and private["auc"] < plain["numbers"]["auc"]


def test_a_gate_with_too_little_noise_is_called_false() -> None:
    method, plan, trials = audited("private-mean")
    loose = replace(hospital(), settings=hospital().settings.replace(epsilon=9.0)).plan(method)

    def careless(trial: Trial) -> Trial:
        """The gate obeys a looser plan than the one that is claimed."""
        return replace(trial, gate=lambda sums, _, step: trial.gate(sums, loose, step))

    findings = two_run_findings([careless(trial) for trial in trials], plan, 6000)
    assert [finding.held for finding in findings] == [False, False]
    assert {finding.verdict for finding in findings} == {FALSE}


def test_the_patient_at_stake_is_the_one_who_shows_most() -> None:
    """Who has two cases has a mean that is shorter than one: it is one of the others, with the longest row."""
    shift, names = audited("private-mean")[2][0].shift, hospital().data.patients
    assert shift["counts"].sum() == pytest.approx(1.0)
    assert np.linalg.norm(shift["sums"]) == pytest.approx(1.0)
    lone = [row for row, name in enumerate(names) if (names == name).sum() == 1]
    unit = hospital().data.values[lone] / np.linalg.norm(hospital().data.values[lone], axis=1, keepdims=True)
    assert np.abs(unit - shift["sums"].sum(axis=0)).max(axis=1).min() < 1e-6


@pytest.mark.parametrize("name", PLAIN)
def test_every_plain_head_can_be_attacked(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    (finding,) = whole(monkeypatch, method=name)["findings"]
    assert finding["numbers"]["auc"] > 0.5


def test_an_attack_above_the_bound_is_called_false() -> None:
    numbers = {"auc": 0.9, "low": 0.85, "high": 0.95, "caught": 0.5, "heads": 64, "patients": 60}
    found = membership_finding("x", numbers, 0.5)
    assert (found.held, found.verdict, found.claim) == (False, FALSE, f"AUC <= {most_auc(0.5):.3f}")
    assert membership_finding("x", {**numbers, "low": 0.55}, 0.5).verdict == STANDS


def test_a_table_is_opened_whole_patients_and_all(tmp_path: Path) -> None:
    rows = ["patient_id,site,split,label,x,y"]
    rows += [f"p{n // 2},north,train,{'ab'[n // 2 % 2]},{n * 0.1},{-n}" for n in range(60)]
    (tmp_path / "manifest.csv").write_text("\n".join(rows))
    opened = open_hospital({"data": "", "data-path": str(tmp_path)}, ["backbone=table"], 20, insecure_entropy(0))
    assert len(opened.data.label) == 20
    assert opened.settings.public_cases == opened.patients == len(np.unique(opened.data.patients)) >= 10
    with pytest.raises(DataError, match="too few"):
        open_hospital({"data": "", "data-path": str(tmp_path)}, ["backbone=table"], 6, insecure_entropy(0))


def test_what_cannot_be_audited_is_refused() -> None:
    with pytest.raises(ConfigError, match="one hospital"):
        open_hospital({"data": "phantom"}, ["secure-sum=true"], 20, insecure_entropy(0))
    with pytest.raises(PrivacyError, match="not a private sum"):
        hospital().sums(Request("moments", config={"step": 0}))
    for name in ("fedavg-5", "logistik"):
        with pytest.raises(ConfigError):
            command.audit(command.AuditOrder(method=name), {})


@pytest.mark.parametrize(("held", "code"), [(True, 0), (None, 0), (False, 1)])
@pytest.mark.parametrize("form", [[], ["--json"]])
def test_the_command_fails_on_a_false_claim(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], held: bool | None, code: int, form: list[str]
) -> None:
    asked = []

    def audit(*given: object) -> dict[str, Any]:
        asked.append(given)
        finding = Finding("noise", "tried it", "p > 0.001", "p = 0.5", "a verdict", held, {"no noise": "found"})
        return {"findings": [asdict(finding)]}

    monkeypatch.setattr("medtl_core.cli.audit.run_audit", audit)
    monkeypatch.setattr(sys, "argv", ["medtl", "audit", "--epsilon", "2", "--set", "backbone=table", *form])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert (stopped.value.code or 0) == code
    order = command.AuditOrder(assignments=["backbone=table"], epsilon=2.0)
    assert asked == [(order, {"data": "phantom", "data-path": ""})]
    shown = capsys.readouterr().out
    if form:
        assert json.loads(shown)["findings"][0]["verdict"] == "a verdict"
    else:
        assert "a verdict" in shown and "planted in noise: no noise: found" in shown and AUDIT_REMARK in shown
