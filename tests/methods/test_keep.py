"""What every personal method owes: nothing personal leaves, a restart changes nothing, bad state is a clear error."""

import errno
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from medtl_core.config import Settings
from medtl_core.errors import ConfigError, MedtlError, StateError
from medtl_core.federation.folds import weighted_mean
from medtl_core.federation.hospitals import Request
from medtl_core.federation.registry import all_methods, answer, read_methods
from medtl_core.federation.study import Study
from medtl_core.methods.network import recipe_config
from medtl_core.methods.personal import state as personal_state
from medtl_core.methods.personal.server import Personal, identity_config
from server.verdict import judge_all
from tests.memory import DirectHospitals, make_site
from tests.methods.personal_sites import PROBLEM, SETTINGS, last_asked, recorded, same, state_bytes, study, with_state

ROUNDS = [kind.example for kind in all_methods() if issubclass(kind, Personal)]
ALL = [kind.example for kind in all_methods() if kind.__module__.split(".")[-1] in
       ("personal", "ditto", "interpolation", "shift")]  # fmt: skip


def method_of(name: str) -> Personal:
    (method,) = read_methods(name)
    assert isinstance(method, Personal)
    return method


@pytest.mark.parametrize("name", [*ALL, "prior-own", "interpolated-mix", "ditto-3@1-adjusted", "fedper-3-adjusted"])
def test_every_hospital_judges_its_own_model_and_the_server_pools_the_sums(tmp_path: Path, name: str) -> None:
    made = study(tmp_path, name)
    verdict = judge_all(made, None)[name]
    assert verdict.kind == "personal"
    assert verdict.outcome.heads == {}
    assert sum(found.n for found in verdict.judgement.by_site.values()) == 5 * 20
    assert 0.0 <= verdict.judgement.figures["balanced_accuracy"] <= 1.0  # type: ignore[operator]
    assert {f"finish-{name}", f"evaluate-{name}"} <= verdict.outcome.bill.keys()
    assert set(verdict.outcome.facts["hospitals"]) == set("abcde")


@pytest.mark.parametrize("name", ROUNDS)
def test_nothing_personal_leaves(tmp_path: Path, name: str) -> None:
    made, hospitals = recorded(tmp_path, name)
    made.outcome(*made.methods)
    shared = {key for key, _ in method_of(name).opening(made).start.items()}
    kept = {path: load_file(path) for path in tmp_path.rglob("*round*.safetensors")}
    personal = {array.tobytes() for arrays in kept.values() for array in arrays.values() if array.any()}
    personal |= {
        array.astype(np.float32).tobytes() for arrays in kept.values() for array in arrays.values() if array.any()
    }
    exchanged = [released for task, _, released in hospitals.left if task.endswith(("_round", "_finish"))]
    assert len(exchanged) == 5 * (method_of(name).rounds + 1)
    for released in exchanged:
        assert set(released.update.arrays) in (shared, set())
        assert not {array.tobytes() for array in released.update.arrays.values()} & personal


@pytest.mark.parametrize("name", ROUNDS)
def test_a_repeated_message_gives_the_same_bytes_and_leaves_the_same_state(tmp_path: Path, name: str) -> None:
    made, twice = recorded(tmp_path / "twice", name)
    judge_all(made, None)
    hospitals = DirectHospitals(with_state(tmp_path / "once"))
    once = Study(hospitals, PROBLEM, SETTINGS, read_methods(name))
    judge_all(once, None)
    assert state_bytes(tmp_path / "twice") == state_bytes(tmp_path / "once")
    (round_task,) = {task for task, _, _ in twice.left if task.endswith("_round")}
    last = [r for r in hospitals.asked if r.task == round_task][-1]
    for site in hospitals.sites.values():
        assert same(
            answer(last.task, site, last.arrays, last.config), answer(last.task, site, last.arrays, last.config)
        )


@pytest.mark.parametrize("name", ROUNDS)
def test_a_restart_of_the_hospitals_before_every_message_changes_no_byte(tmp_path: Path, name: str) -> None:
    class Restarted(DirectHospitals):
        def ask(self, request: Request):  # type: ignore[no-untyped-def]
            self.sites = {site.name: site for site in with_state(tmp_path / "parts")}
            return super().ask(request)

    method = replace(method_of(name), rounds=4)
    whole = Study(DirectHospitals(with_state(tmp_path / "whole")), PROBLEM, SETTINGS, [method])
    parts = Study(Restarted(with_state(tmp_path / "parts")), PROBLEM, SETTINGS, [method])
    assert method.outcome(whole).personal.config == method.outcome(parts).personal.config
    assert state_bytes(tmp_path / "parts") == state_bytes(tmp_path / "whole")


@pytest.mark.parametrize("name", ROUNDS)
def test_a_hospital_whose_state_is_lost_begins_anew_and_says_so(tmp_path: Path, name: str) -> None:
    made = study(tmp_path, name)
    method = method_of(name)
    opening = method.opening(made)
    config = {**identity_config(made, name), **recipe_config(made), **opening.config, "round": 3}
    arrays = {**made.moments.standardisation, **{key: value.astype(np.float32) for key, value in opening.start.items()}}
    site = with_state(tmp_path)[0]
    assert answer(f"{method.word}_round", site, arrays, config).metrics["began-late"] == 1.0
    assert answer(f"{method.word}_round", site, arrays, {**config, "round": 4}).metrics["began-late"] == 0.0
    assert answer(f"{method.word}_round", site, arrays, {**config, "round": 1}).metrics["began-late"] == 0.0


def test_late_hospitals_are_named_in_the_facts(tmp_path: Path) -> None:
    made = study(tmp_path, "fedper-3")

    class Forgetful(DirectHospitals):
        def ask(self, request: Request):  # type: ignore[no-untyped-def]
            if request.config.get("round") == 2:
                for path in (tmp_path / "d").iterdir():
                    path.unlink()
            return super().ask(request)

    outcome = Study(Forgetful(with_state(tmp_path)), PROBLEM, SETTINGS, made.methods).outcome(*made.methods)
    assert outcome.facts["began_late"] == ["d"]


def finish(site, made: Study, name: str, changes: dict) -> None:
    method = method_of(name)
    opening = method.opening(made)
    config = {**identity_config(made, name), **recipe_config(made), **opening.config, "adjusted": False, **changes}
    arrays = {**made.moments.standardisation, **{key: value.astype(np.float32) for key, value in opening.start.items()}}
    answer(f"{method.word}_finish", site, {**arrays, "seen": np.ones(3, np.int64)}, config)


def test_a_hospital_that_took_part_in_no_round_sits_out_where_its_part_would_be_nothing(tmp_path: Path) -> None:
    made, site = study(tmp_path, "fedper-3"), with_state(tmp_path)[0]
    for name in ("fedper-3", "fedrep-3"):
        with pytest.raises(StateError, match=r"took part in no round.*sits out"):
            finish(site, made, name, {"round": 4})
    for name in ("fedbn-3", "ditto-3"):
        finish(site, made, name, {"round": 4})


def test_a_model_that_was_never_finished_is_not_judged(tmp_path: Path) -> None:
    made, site = study(tmp_path, "fedper-3"), with_state(tmp_path)[0]
    with pytest.raises(StateError, match="no finished model of fedper-3"):
        answer("evaluate_personal", site, {}, identity_config(made, "fedper-3"))


def test_a_model_of_an_unknown_kind_is_not_judged(tmp_path: Path) -> None:
    made = study(tmp_path, "ditto-3")
    made.outcome(*made.methods)
    path = tmp_path / "a" / "ditto-3.final.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "facts": {"kind": "forest"}}))
    with pytest.raises(StateError, match="no kind that this version"):
        answer("evaluate_personal", with_state(tmp_path)[0], {}, identity_config(made, "ditto-3"))


def test_without_a_state_folder_the_method_is_refused_with_the_remedy() -> None:
    made = Study(DirectHospitals([make_site("a", 9)]), PROBLEM, SETTINGS, read_methods("fedper-3"))
    with pytest.raises(
        ConfigError, match=r"fedper-3 keeps .* start its SuperNode with state-dir .* or set state=FOLDER"
    ):
        made.outcome(*made.methods)


def test_the_server_cannot_judge_personal_models(tmp_path: Path) -> None:
    from server.testset import TestSet

    cases = TestSet(np.zeros((2, 6), np.float32), np.array([0, 1]), np.array(["a", "a"]), np.array([0, 1]))
    for name in ALL:
        with pytest.raises(ConfigError, match="set test=sites"):
            judge_all(study(tmp_path, name), cases)


def test_a_message_that_names_no_identity_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not say whose"):
        answer("evaluate_personal", with_state(tmp_path)[0], {}, {"method": "fedper-3"})


def test_a_method_name_cannot_leave_the_state_folder(tmp_path: Path) -> None:
    made = study(tmp_path, "fedper-3")
    with pytest.raises(ConfigError, match="cannot be a file name"):
        answer("evaluate_personal", with_state(tmp_path)[0], {}, identity_config(made, "../b/fedper-3"))


def test_a_personal_head_of_another_run_is_refused(tmp_path: Path) -> None:
    judge_all(study(tmp_path, "ditto-3"), None)
    other = study(tmp_path, "ditto-3", replace(SETTINGS, seed=7))
    with pytest.raises(StateError, match="another agreement"):
        answer("evaluate_personal", with_state(tmp_path)[0], {}, identity_config(other, "ditto-3"))
    foreign = {**identity_config(study(tmp_path, "ditto-3"), "ditto-3"), "classes": json.dumps(["p", "q", "r"])}
    with pytest.raises(StateError, match="another classes"):
        answer("evaluate_personal", with_state(tmp_path)[0], {}, foreign)


def test_damaged_state_is_one_clear_error_in_training_and_in_judgement(tmp_path: Path) -> None:
    made = study(tmp_path, "ditto-3")
    judge_all(made, None)
    for what in ("round-3", "final"):
        path = tmp_path / "a" / f"ditto-3.{what}.safetensors"
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content)
    site, config = with_state(tmp_path)[0], identity_config(made, "ditto-3")
    with pytest.raises(StateError, match="damaged"):
        answer("evaluate_personal", site, {}, config)
    with pytest.raises(StateError, match=r"damaged.*move the file away"):
        finish(site, made, "ditto-3", {"round": 4})


def test_a_full_disk_keeps_the_hospital_out_of_the_round_and_its_state_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = study(tmp_path, "fedper-3")
    judge_all(made, None)
    before = state_bytes(tmp_path)

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(personal_state, "write_bytes", full)
    request = Request("fedper_round", config={**identity_config(made, "fedper-3"), **recipe_config(made), "round": 4})
    arrays = {**made.moments.standardisation, **method_of("fedper-3").opening(made).start}
    with pytest.raises(StateError, match="No space left on device") as caught:
        answer("fedper_round", with_state(tmp_path)[0], arrays, request.config)
    assert str(tmp_path) not in caught.value.public_text
    assert state_bytes(tmp_path) == before


@pytest.mark.parametrize("name", ALL)
def test_one_case_and_one_class_are_legal(tmp_path: Path, name: str) -> None:
    made = study(tmp_path, name)
    made.outcome(*made.methods)
    for site in with_state(tmp_path):
        sums = answer("evaluate_personal", site, {}, identity_config(made, name)).update.arrays
        assert sums["confusion"].sum() == 20
        assert all(np.isfinite(array).all() for array in sums.values())


def test_a_hospital_without_held_out_cases_answers_with_nothing(tmp_path: Path) -> None:
    made = study(tmp_path, "ditto-3")
    made.outcome(*made.methods)
    site = with_state(tmp_path)[0]
    empty = replace(
        site, test_values=site.test_values[:0], test_label=site.test_label[:0], test_patients=np.zeros(0, str)
    )
    sums = answer("evaluate_personal", empty, {}, identity_config(made, "ditto-3")).update.arrays["sums"]
    assert sums.tolist() == [[0.0, 0.0, 0.0]]


def test_two_methods_of_one_family_keep_apart(tmp_path: Path) -> None:
    together = study(tmp_path / "both", "fedper-2,fedper-3")
    for method in together.methods:
        together.outcome(method)
    alone = study(tmp_path / "alone", "fedper-2")
    alone.outcome(*alone.methods)
    both, one = state_bytes(tmp_path / "both"), state_bytes(tmp_path / "alone")
    assert {name: content for name, content in both.items() if "fedper-2." in name} == one


def test_the_average_weighs_hospitals_by_their_cases(tmp_path: Path) -> None:
    made, hospitals = recorded(tmp_path, "ditto-1", Settings(test="sites", local_epochs=1))
    made.outcome(*made.methods)
    told = [
        (r.update.arrays, len(hospitals.sites[name].label)) for task, name, r in hospitals.left if task == "ditto_round"
    ]
    mean = weighted_mean(told)["head"].astype(np.float32)
    last = last_asked(made, "ditto_finish")
    np.testing.assert_allclose(last.arrays["head"], mean, atol=1e-7)


def test_errors_tell_the_server_nothing_of_the_disk() -> None:
    assert "/" not in StateError.public_text
    assert issubclass(StateError, MedtlError)
