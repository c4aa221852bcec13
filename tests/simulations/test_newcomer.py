"""The newcomer experiment on a small table: who is on which side, and what it prints."""

from pathlib import Path

import numpy as np
import pytest

from medtl_core.config import settings
from medtl_core.errors import ConfigError, RunError
from medtl_core.federation.hospitals import Request
from medtl_core.values import Examples
from simulations import newcomer
from simulations.federation import Cases, load
from simulations.memory import MemoryHospitals
from simulations.newcomer import class_splits, hospital_splits, main
from simulations.newcomer_learners import LEARNERS
from tests.manifest import write_table
from tests.memory import make_site


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_table(tmp_path_factory.mktemp("table") / "table.csv", "abc", 60, columns=6)


@pytest.fixture(scope="module")
def cases(path: Path) -> Cases:
    return load(settings({"data": "", "data-path": str(path), "backbone": "table", "sites": 2, "shots": 0}))


def test_a_new_class_stands_among_known_ones_and_sites_are_left_out_in_turn(cases: Cases) -> None:
    label, patient, site = (cases.examples[key] for key in ("label", "patient", "site"))
    classes, hospitals = list(class_splits(cases, 3, 1)), list(hospital_splits(cases, 2))
    for split in (*classes, *hospitals):
        sides = [set(patient[rows]) for rows in (split.base, split.pool, split.test)]
        assert sum(map(len, sides)) == len(set.union(*sides))
    for split in classes:
        assert set(split.own) - set(split.classes) == {split.name}
        assert {cases.examples.task.classes[at] for at in np.unique(label[split.base])} == set(split.classes)
        assert set(np.unique(label[split.test])) == {0, 1, 2}
    assert [split.name for split in hospitals] == [*"abc"] * 2
    for split in hospitals:
        assert set(site[split.pool]) == set(site[split.test]) == {split.name}
        assert split.name not in set(site[split.base])


def test_an_eighth_of_a_single_site_becomes_the_newcomer(cases: Cases) -> None:
    columns = {**cases.examples.columns, "site": np.full(len(cases.values), "one")}
    single = Examples(columns, cases.examples.task)
    (split,) = hospital_splits(Cases(single, cases.values, cases.fingerprint, cases.groups, cases.settings), 1)
    patients = [set(cases.examples["patient"][rows]) for rows in (split.pool, split.base)]
    assert len(patients[0]) == sum(map(len, patients)) // 8 and not patients[0] & patients[1]


def test_holding_out_too_much_is_refused(cases: Cases) -> None:
    for novel in (0, 2, 3):
        with pytest.raises(ConfigError, match=f"novel={novel} of 3 classes"):
            list(class_splits(cases, 1, novel))


@pytest.mark.slow
def test_every_learner_answers_and_differences_are_paired(
    path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(newcomer, "SHOTS", (1, 3))
    words = ["class", "--data", str(path), "--splits", "2", "--rounds", "1", "--set", "backbone=table", "sites=2"]
    assert main(words) == 0
    shown = capsys.readouterr().out
    assert "balanced accuracy, new class, 2 splits" in shown and shown.count("\n| ") == 2 + len(LEARNERS)
    assert shown.count(" ± ") == 2 * len(LEARNERS) + 2 * (len(LEARNERS) - 1)  # figures, and differences


def test_a_federation_in_memory_needs_its_quorum() -> None:
    hospitals = MemoryHospitals([make_site("a", 12), make_site("b", 6, skew=1), make_site("c", 6, skew=1)], quorum=0.5)
    arrays = {"mean": np.zeros(6), "scale": np.ones(6), "body.weight": np.ones((2, 6)), "body.bias": np.zeros(2)}
    config = {"round": 1, "ways": 3, "shots": 1, "queries": 1, "episodes": 1, "rate": 0.1}
    heard = hospitals.ask(Request("fit_protonet", arrays, config))
    assert next(heard).site == "a"
    with pytest.raises(RunError, match="1 of 3 hospitals"):
        list(heard)
    assert [failure.site for failure in hospitals.failures] == ["b", "c"]
