"""A class of which no hospital has a training case: the run says so, and so does its head."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.cli.conftest import Call


def write_cases(folder: Path) -> None:
    """Two hospitals without a case of "rare", of which the test cases hold some."""
    folder.mkdir()
    (folder / "task.json").write_text(json.dumps({"name": "ward", "classes": ["well", "ill", "rare"]}))
    rng, lines = np.random.default_rng(0), ["label,a,b,patient_id,site,split"]
    for at in range(60):
        split = "test" if at % 3 == 0 else "train"
        label = ("well", "ill", "rare")[at // 3 % 3] if split == "test" else ("well", "ill")[at % 2]
        a, b = rng.normal(size=2).round(4) + len(label)
        lines.append(f"{label},{a},{b},p{at},{('east', 'west')[at // 3 % 2]},{split}")
    (folder / "manifest.csv").write_text("\n".join(lines) + "\n")


def test_a_class_that_no_hospital_has_is_named_by_the_run_its_report_and_its_head(
    tmp_path: Path, call: Call, caplog: pytest.LogCaptureFixture
) -> None:
    write_cases(tmp_path / "cases")
    words = ["backbone=table", "methods=local,discriminant,fedavg-1", "shots=0", "cache=off", "bootstrap=20"]
    place = ["--data", str(tmp_path / "cases"), "--out", str(tmp_path / "run")]
    code, shown = call("simulate", *place, "--set", *words)
    assert code == 0, shown
    sentence = "No hospital has a training case of rare"
    assert [line.count(sentence) for line in caplog.messages] == [1]
    assert sentence in json.loads((tmp_path / "run" / "seed-0" / "result.json").read_text())["data"]["notes"][-1]
    assert sentence in (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    (tmp_path / "new.csv").write_text("a,b\n3.1,4.0\n")
    head = tmp_path / "run" / "seed-0" / "heads" / "discriminant.json"
    _, shown = call("predict", head, tmp_path / "new.csv", "--format", "json")
    answers = json.loads(shown[: shown.rindex("}") + 1])
    assert "no training case of rare: it never answers so" in answers["basis"]
    assert set(answers["answers"][0]["probabilities"]) == {"well", "ill"}


def test_a_finding_that_training_cases_never_have_is_named_too(
    tmp_path: Path, call: Call, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "cases"
    folder.mkdir()
    task = {"name": "chest", "classes": ["edema", "nodule"], "kind": "multi-label"}
    (folder / "task.json").write_text(json.dumps(task))
    rng, lines = np.random.default_rng(0), ["edema,nodule,a,b,patient_id,site,split"]
    for at in range(60):
        edema, split, site = at % 2, "test" if at % 3 == 0 else "train", "north" if at < 30 else "south"
        nodule = int(split == "test" and at % 4 == 0)
        a, b = rng.normal(size=2).round(4) + edema
        lines.append(f"{edema},{nodule},{a},{b},p{at},{site},{split}")
    (folder / "manifest.csv").write_text("\n".join(lines) + "\n")
    words = ["backbone=table", "methods=discriminant", "shots=0", "cache=off", "bootstrap=20"]
    code, shown = call("simulate", "--data", folder, "--out", tmp_path / "run", "--set", *words)
    assert code == 0, shown
    assert [line.count("Of nodule all training cases") for line in caplog.messages] == [1]
    (tmp_path / "new.csv").write_text("a,b\n1.1,0.4\n")
    head = tmp_path / "run" / "seed-0" / "heads" / "discriminant.json"
    _, shown = call("predict", head, tmp_path / "new.csv")
    assert "Of nodule the training cases were all with or all without it: there is no answer." in shown
