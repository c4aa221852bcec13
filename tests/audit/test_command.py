"""`medtl audit` on one made-up hospital: every attack, on private heads and on heads without privacy."""

import json
import sys
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medtl_core.audit import command
from medtl_core.audit.finding import FALSE, STANDS, Finding
from medtl_core.audit.membership import PLAIN, membership_finding, membership_plain, membership_private, most_auc
from medtl_core.audit.site import AuditedSite, open_hospital
from medtl_core.audit.trial import BUGS, Trial, bound_of, noise_finding, trials_of, two_run_findings
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


def hospital(epsilon: float = 3.0) -> AuditedSite:
    """Patients of one to two cases; the map of a table is the identity, so no image is needed."""
    rng = stream(0, "audit")
    names = np.concatenate([np.arange(PATIENTS), np.arange(0, PATIENTS, 3)])
    label = names % CLASSES
    values = 0.6 * np.eye(WIDTH)[label] + 0.3 * rng.standard_normal((len(names), WIDTH))
    nobody = (np.zeros((0, WIDTH), np.float32), np.zeros(0, np.int64), np.zeros(0, str))
    data = SiteData("one", values.astype(np.float32), label, names.astype(str), *nobody, CLASSES, 0)
    chosen = Settings(backbone="table", sites=1, colluders=0, public_cases=PATIENTS, epsilon=epsilon)
    problem = Problem(("a", "b", "c"), "features", (("table", 0, WIDTH),))
    return AuditedSite(data, problem, chosen, insecure_entropy(1))


@dataclass(frozen=True)
class Audited:
    """A private method's run at the made-up hospital."""

    method: PrivateMethod
    site: AuditedSite
    plan: Plan
    requests: tuple[Request, ...]
    trials: list[Trial]


@cache
def audited(name: str, epsilon: float = 3.0) -> Audited:
    method, site = find_method(name), hospital(epsilon)
    assert isinstance(method, PrivateMethod)
    plan, (requests, _) = site.plan(method), site.run(method)
    return Audited(method, site, plan, requests, trials_of(site, plan, requests))


SUMS = ("private-auto", "private-mean", "private-prototypes", "private-gradient-3")


@pytest.mark.parametrize("name", SUMS)
def test_the_real_method_stays_within_its_claim(name: str) -> None:
    run = audited(name)
    assert len(run.requests) == sum(step.count for step in run.plan.steps)
    findings = [
        noise_finding(run.plan, run.trials, run.site.entropy),
        *two_run_findings(run.trials, run.plan, 2000),
    ]
    assert [finding.held for finding in findings] == [True] * len(findings)
    assert findings[-1].numbers["claim"] == pytest.approx(3.0, rel=1e-6)
    assert {finding.test for finding in findings} >= {"noise", "two runs: all releases"}
    assert findings[0].numbers["short_p"] < 1e-6
    planted = next(finding.planted for finding in findings if len(finding.planted) == len(BUGS))
    assert all(words.endswith(", found") for bug, words in planted.items() if bug != "half noise")


def test_half_noise_in_the_real_method_is_found() -> None:
    run = audited("private-mean", 4.0)
    assert bound_of([BUGS["half noise"](run.trials[0])], 6000) > run.trials[0].claim


def test_a_gate_with_too_little_noise_is_called_false() -> None:
    run = audited("private-mean", 4.0)
    loose = replace(run.site, settings=run.site.settings.replace(epsilon=12.0)).plan(run.method)

    def careless(trial: Trial) -> Trial:
        """The gate obeys a looser plan than the one that is claimed."""
        return replace(trial, gate=lambda sums, _, step: trial.gate(sums, loose, step))

    findings = two_run_findings([careless(trial) for trial in run.trials], run.plan, 6000)
    assert [finding.held for finding in findings] == [False, False]
    assert {finding.verdict for finding in findings} == {FALSE}


def test_the_patient_at_stake_is_the_one_who_shows_most() -> None:
    """Who has two cases has a mean that is shorter than one: it is one of the others, with the longest row."""
    run, names = audited("private-mean"), hospital().data.patients
    shift = run.trials[0].shift
    assert shift["counts"].sum() == pytest.approx(1.0)
    assert np.linalg.norm(shift["sums"]) == pytest.approx(1.0)
    lone = [row for row, name in enumerate(names) if (names == name).sum() == 1]
    unit = hospital().data.values[lone] / np.linalg.norm(hospital().data.values[lone], axis=1, keepdims=True)
    assert np.abs(unit - shift["sums"].sum(axis=0)).max(axis=1).min() < 1e-6


def test_a_server_that_knows_the_public_images_makes_the_same_head() -> None:
    run = audited("private-mean")
    knowing, again = run.site.informed(run.requests[0]), hospital()
    assert knowing.problem.public is not None
    heads = [replace(site, entropy=insecure_entropy(5)).run(run.method)[1] for site in (knowing, again)]
    values = run.site.data.values
    assert heads[0].logits(values).tobytes() == heads[1].logits(values).tobytes()


def test_membership_with_and_without_privacy() -> None:
    run = audited("private-mean")
    plain, private = membership_plain("discriminant", run.site, 16), membership_private(run.method, run.site, 16)
    assert plain.held is None and plain.numbers["low"] > 0.6
    assert private.held is True and private.numbers["low"] <= private.numbers["most"]
    assert private.numbers["auc"] < plain.numbers["auc"]


@pytest.mark.parametrize("name", PLAIN)
def test_every_plain_head_can_be_attacked(name: str) -> None:
    assert membership_plain(name, hospital(), 16).numbers["auc"] > 0.5


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


@pytest.mark.parametrize(("name", "rows"), [("private-mean", 5), ("logistic", 1)])
def test_a_whole_audit_is_json_and_a_table(monkeypatch: pytest.MonkeyPatch, name: str, rows: int) -> None:
    monkeypatch.setattr(command, "open_hospital", lambda *given: hospital())
    found = command.audit(command.AuditOrder(method=name, epsilon=3.0, heads=16, runs=500), {})
    assert json.loads(json.dumps(found))["patients"] == PATIENTS
    assert len(found["findings"]) == audit_table(found).row_count == rows
    assert found["delta"] == (1e-5 if name == "private-mean" else None)
    assert len(planted_lines(found)) == (4 if name == "private-mean" else 0)


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
