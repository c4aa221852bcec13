"""`medtl audit` on one made-up hospital: every attack, on private heads and on heads without privacy."""

import json
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medtl_core.audit import command
from medtl_core.audit.finding import FALSE, STANDS, Finding
from medtl_core.audit.membership import PLAIN, membership_finding, most_auc
from medtl_core.audit.neighbours import neighbours
from medtl_core.audit.site import AuditedData, open_data
from medtl_core.audit.trial import BUGS, trials_of, two_run_findings
from medtl_core.cli import app as cli
from medtl_core.errors import ConfigError, DataError, PrivacyError
from medtl_core.federation.hospitals import Request
from medtl_core.federation.method import Need, Outcome
from medtl_core.federation.private import PrivateMethod
from medtl_core.federation.registry import find_method
from medtl_core.federation.study import Study
from medtl_core.privacy.noise import insecure_entropy
from medtl_core.report.terminal import AUDIT_REMARK, audit_table, audit_verdict, planted_lines, tried_lines
from tests.audit.made import PATIENTS, ROOT, data_set, door, hospital


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("audited")


def whole(monkeypatch: pytest.MonkeyPatch, folder: Path, **order: Any) -> dict[str, Any]:
    """The command's whole answer on the made-up hospital; few hospitals without a patient are enough."""
    monkeypatch.setattr("medtl_core.audit.neighbours._MESSAGES", 12)
    monkeypatch.setattr(command, "open_data", lambda *given: data_set(folder))
    return command.audit(command.AuditOrder(epsilon=3.0, heads=16, **order), {}, ROOT)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("private-auto", marks=pytest.mark.slow),
        *(
            pytest.param(name, marks=pytest.mark.door)
            for name in ("private-mean", "private-prototypes", "private-gradient-3")
        ),
    ],
)
def test_a_real_method_stays_within_its_claim_and_bugs_do_not(
    monkeypatch: pytest.MonkeyPatch, folder: Path, name: str
) -> None:
    answer = json.loads(json.dumps(whole(monkeypatch, folder, method=name, runs=2000)))
    findings = {finding["test"]: finding for finding in answer["findings"]}
    steps = 1 if name == "private-mean" else 2
    assert answer["patients"] == PATIENTS and answer["delta"] == 1e-5
    assert audit_table(answer).row_count == len(findings) == len(tried_lines(answer)) == 6 + steps
    assert audit_verdict(answer).startswith("No claim was contradicted: all")
    plain, where = findings.pop("membership: discriminant"), findings.pop(f"which hospital: {name}")
    assert plain["held"] is None and plain["numbers"]["low"] > 0.6
    assert where["held"] is None and where["numbers"]["chance"] == 0.5
    assert [finding["held"] for finding in findings.values()] == [True] * len(findings)
    assert findings["two runs: all releases"]["numbers"]["claim"] == pytest.approx(3.0, rel=1e-6)
    assert findings["noise"]["numbers"]["short_p"] < 1e-6
    planted = planted_lines(answer)
    assert len(planted) == 2 + len(BUGS)
    assert all(line.endswith(", found") for line in planted if "half noise" not in line)
    private = findings[f"membership: {name}"]["numbers"]
    assert private["low"] <= private["most"] and private["auc"] < plain["numbers"]["auc"]


def test_the_patient_at_stake_is_the_one_who_shows_most_and_a_gate_with_too_little_noise_is_called_false(
    folder: Path,
) -> None:
    """Who has two cases has a mean that is shorter than one: it is one of the others, with the longest row."""
    method, site = find_method("private-mean"), hospital(folder, patients=16)
    assert isinstance(method, PrivateMethod)
    table = site.on_directions(site.directions(method))
    plan, run = table.plan(method), neighbours(table, table.run(method)[0])
    (trial,) = trials_of(plan, run, table.entropy)
    assert trial.shift["counts"].sum() == pytest.approx(1.0, abs=1e-4)
    assert np.linalg.norm(trial.shift["sums"]) == pytest.approx(1.0, abs=1e-4)
    names, values = site.data.patients, site.data.values
    lone = [row for row, name in enumerate(names) if (names == name).sum() == 1]
    unit = values[lone] / np.linalg.norm(values[lone], axis=1, keepdims=True)
    assert np.abs(unit - trial.shift["sums"].sum(axis=0)).max(axis=1).min() < 1e-4

    loose = replace(table, settings=table.settings.replace(epsilon=9.0)).plan(method)
    careless = replace(trial, gate=lambda sums, _, step: trial.gate(sums, loose, step))
    findings = two_run_findings([careless], plan, 6000)
    assert [finding.held for finding in findings] == [False, False]
    assert {finding.verdict for finding in findings} == {FALSE}


@pytest.mark.parametrize("name", [PLAIN[0], *(pytest.param(name, marks=pytest.mark.slow) for name in PLAIN[1:])])
def test_every_plain_head_can_be_attacked(monkeypatch: pytest.MonkeyPatch, folder: Path, name: str) -> None:
    answer = whole(monkeypatch, folder, method=name)
    members, where = answer["findings"]
    assert members["numbers"]["auc"] > 0.5 and where["test"] == f"which hospital: {name}"
    assert audit_verdict(answer).startswith("Nothing is claimed")


def test_an_attack_above_the_bound_is_called_false() -> None:
    numbers = {"auc": 0.9, "low": 0.85, "high": 0.95, "caught": 0.5, "heads": 64, "patients": 60}
    found = membership_finding("x", numbers, 0.5)
    assert (found.held, found.verdict, found.claim) == (False, FALSE, f"AUC <= {most_auc(0.5):.3f}")
    assert membership_finding("x", {**numbers, "low": 0.55}, 0.5).verdict == STANDS


def test_a_table_is_opened_whole_patients_and_all(tmp_path: Path) -> None:
    rows = ["patient_id,site,split,label,x,y"]
    rows += [f"p{n // 2},{'north' if n < 60 else 'south'},train,{'ab'[n // 2 % 2]},{n * 0.1},{-n}" for n in range(90)]
    (tmp_path / "manifest.csv").write_text("\n".join(rows))

    def opened(*words: str, shots: int = 20) -> AuditedData:
        source = {"data": "", "data-path": str(tmp_path)}
        return open_data(source, ["backbone=table", *words], shots, insecure_entropy(0), door(tmp_path))

    data = opened()
    assert len(data.site.data.label) == 20
    assert data.site.settings.public_cases == data.site.patients - 1 >= 9
    assert np.unique(data.where, return_counts=True)[1].tolist() == [20, 20]
    for name, place in zip(data.pooled.data.patients.tolist(), data.where.tolist(), strict=True):
        assert (int(name[1:]) < 30) == (place == "north")
    with pytest.raises(DataError, match="too few"):
        opened(shots=6)
    with pytest.raises(ConfigError, match="one hospital"):
        opened("secure-sum=true")


def test_what_cannot_be_audited_is_refused(folder: Path) -> None:
    with pytest.raises(PrivacyError, match="no sums of rows"):
        hospital(folder).directions(Plain())  # type: ignore[arg-type]
    for name in ("fedavg-5", "logistik"):
        with pytest.raises(ConfigError):
            command.audit(command.AuditOrder(method=name), {}, folder)


class Plain:
    """A method that asks for something else first."""

    name = "plain"
    test = "server"

    def needs(self, study: Study) -> tuple[Need, ...]:
        return ()

    def outcome(self, study: Study) -> Outcome:
        study.hospitals.total(Request("moments"))
        raise AssertionError("somebody answered")


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

    words = {True: "No claim was contradicted", None: "Nothing is claimed here", False: "A CLAIM IS FALSE: 1 of 1"}

    monkeypatch.setattr("medtl_core.cli.audit.run_audit", audit)
    monkeypatch.setattr(sys, "argv", ["medtl", "audit", "--epsilon", "2", "--set", "backbone=table", *form])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert (stopped.value.code or 0) == code
    order = command.AuditOrder(assignments=["backbone=table"], epsilon=2.0)
    assert asked == [(order, {"data": "phantom", "data-path": ""}, ROOT)]
    shown = capsys.readouterr().out
    if form:
        assert json.loads(shown)["findings"][0]["verdict"] == "a verdict"
    else:
        assert shown.startswith(words[held])
        assert "tried it; a verdict" in shown and "planted in noise: no noise: found" in shown and AUDIT_REMARK in shown
