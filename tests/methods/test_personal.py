"""What every personal method owes: nothing personal leaves, a restart changes nothing, bad state is a clear error."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from medtl_core.config import Settings
from medtl_core.errors import ConfigError, StateError
from medtl_core.federation.folds import weighted_mean
from medtl_core.federation.hospitals import Request
from medtl_core.federation.registry import all_methods, answer, read_methods
from medtl_core.federation.study import Study
from server.verdict import judge_all
from simulations.memory import MemoryHospitals
from tests.memory import PROBLEM, make_site
from tests.methods.personal_sites import (
    SETTINGS,
    Repeated,
    ask,
    finished,
    identity,
    judged,
    last_asked,
    message,
    same,
    state_bytes,
    study,
    with_state,
)  # fmt: skip

ROUNDS = ["ditto-2", "fedbn-2", "fedper-2", "fedrep-2"]
ALL = [kind.example for kind in all_methods() if kind.__module__.startswith("medtl_core.methods.personal.")]
WHOLE = [*ALL, "prior-own"]


@pytest.mark.parametrize("name", WHOLE)
def test_every_hospital_judges_its_own_model_also_with_one_case_or_one_class(tmp_path: Path, name: str) -> None:
    verdict = judge_all(study(tmp_path, name), None)[name]
    assert verdict.kind == "personal"
    assert verdict.outcome.heads == {}
    assert 0.0 <= verdict.judgement.figures["balanced_accuracy"] <= 1.0  # type: ignore[operator]
    assert {f"finish-{name}", f"evaluate-{name}"} <= verdict.outcome.bill.keys()
    assert set(verdict.outcome.facts["hospitals"]) == set("abcde")
    for site in with_state(tmp_path):
        sums = judged(site, name)
        assert sums["confusion"].sum() == 20
        assert all(np.isfinite(array).all() for array in sums.values())


@pytest.mark.parametrize("name", ROUNDS)
def test_nothing_personal_leaves_and_neither_a_restart_nor_a_repeated_message_changes_a_byte(
    tmp_path: Path, name: str
) -> None:
    twice = Repeated(tmp_path / "twice")
    made = Study(twice, PROBLEM, SETTINGS, read_methods(name))
    request = made.outcome(*made.methods).personal
    assert request is not None and request.config["method"] == name
    finished(tmp_path / "once", name)
    assert state_bytes(tmp_path / "twice") == state_bytes(tmp_path / "once")
    sent = [(task, site, released) for task, site, released in twice.left if task.endswith(("_round", "_finish"))]
    assert len(sent) == 2 * 5 * 3
    assert all(same(first[2], again[2]) for first, again in zip(sent[::2], sent[1::2], strict=True))
    shared = set(last_asked(made, "_round").expect)
    kept = [array for path in tmp_path.rglob("*round*.safetensors") for array in load_file(path).values()]
    personal = {array.astype(kind).tobytes() for array in kept if array.any() for kind in (np.float32, np.float64)}
    for task, _, released in sent:
        assert set(released.update.arrays) == (shared if task.endswith("_round") else set())
        assert not {array.tobytes() for array in released.update.arrays.values()} & personal


@pytest.mark.parametrize("name", ROUNDS)
def test_a_hospital_whose_state_is_lost_begins_anew_and_says_so(tmp_path: Path, name: str) -> None:
    site, request = with_state(tmp_path)[0], message(name, "_round")
    late = [ask(site, request, round=number).metrics["began-late"] for number in (3, 4, 1)]
    assert late == [1.0, 0.0, 0.0]


def test_late_hospitals_are_named_in_the_facts(tmp_path: Path) -> None:
    class Forgetful(MemoryHospitals):
        def ask(self, request: Request):  # type: ignore[no-untyped-def]
            if request.config.get("round") == 2:
                for path in (tmp_path / "d").iterdir():
                    path.unlink()
            return super().ask(request)

    made = Study(Forgetful(with_state(tmp_path)), PROBLEM, SETTINGS, read_methods("fedper-3"))
    assert made.outcome(*made.methods).facts["began_late"] == ["d"]


@pytest.mark.parametrize(("name", "sits_out"), [*zip(ROUNDS, (False, False, True, True), strict=True)])
def test_a_hospital_that_took_part_in_no_round_sits_out_where_its_part_would_be_nothing(
    tmp_path: Path, name: str, sits_out: bool
) -> None:
    site = with_state(tmp_path)[0]
    if sits_out:
        with pytest.raises(StateError, match=r"took part in no round.*sits out"):
            ask(site, message(name, "_finish"))
        with pytest.raises(StateError, match=f"no finished model of {name}"):
            judged(site, name)
    else:
        ask(site, message(name, "_finish"))
        assert judged(site, name)["confusion"].sum() == 20


def test_a_model_of_an_unknown_kind_is_not_judged(tmp_path: Path) -> None:
    site = with_state(tmp_path)[0]
    ask(site, message("ditto-3", "_finish"))
    path = tmp_path / "a" / "ditto-3.final.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "facts": {"kind": "forest"}}))
    with pytest.raises(StateError, match="no kind that this version"):
        judged(site, "ditto-3")


def test_without_a_state_folder_the_method_is_refused_with_the_remedy() -> None:
    with pytest.raises(ConfigError, match=r"fedper-3 keeps .* medtl site run, or set state=FOLDER"):
        ask(make_site("a", 9), message("fedper-3", "_round"))


def test_the_server_cannot_judge_personal_models(tmp_path: Path) -> None:
    from server.testset import TestSet

    cases = TestSet(np.zeros((2, 6), np.float32), np.array([0, 1]), np.array(["a", "a"]), np.array([0, 1]))
    for name in ALL:
        with pytest.raises(ConfigError, match="set test=sites"):
            judge_all(study(tmp_path, name), cases)


def test_a_message_of_no_or_of_a_foreign_identity_is_refused(tmp_path: Path) -> None:
    site = with_state(tmp_path)[0]
    ask(site, message("ditto-3", "_finish"))
    known = identity("ditto-3")
    for config, error, words in (
        ({"method": "ditto-3"}, ConfigError, "does not say whose"),
        ({**known, "method": "../b/ditto-3"}, ConfigError, "cannot be a file name"),
        (identity("ditto-3", replace(SETTINGS, seed=7)), StateError, "another agreement"),
        ({**known, "classes": json.dumps(["p", "q", "r"])}, StateError, "another classes"),
    ):
        with pytest.raises(error, match=words):
            answer("evaluate_personal", site, {}, config)


def test_a_hospital_without_held_out_cases_answers_with_nothing(tmp_path: Path) -> None:
    site = with_state(tmp_path)[0]
    ask(site, message("ditto-3", "_finish"))
    none = {"test_values": site.test_values[:0], "test_label": site.test_label[:0]}
    empty = replace(site, **none, test_patients=np.zeros(0, str))
    assert judged(empty, "ditto-3")["sums"].tolist() == [[0.0, 0.0, 0.0]]


def test_the_average_weighs_hospitals_by_their_cases(tmp_path: Path) -> None:
    hospitals = Repeated(tmp_path)
    made = Study(hospitals, PROBLEM, Settings(test="sites", local_epochs=1), read_methods("ditto-1"))
    made.outcome(*made.methods)
    rounds = [(site, released) for task, site, released in hospitals.left if task == "ditto_round"][::2]
    mean = weighted_mean((released.update.arrays, hospitals.weights[site]) for site, released in rounds)["head"]
    np.testing.assert_allclose(last_asked(made, "ditto_finish").arrays["head"], mean.astype(np.float32), atol=1e-7)
