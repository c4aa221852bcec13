"""Cases unlike the training cases and thresholds that a run set: in the saved head, and in what it answers."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from medtl_core.cli import app as cli
from medtl_core.clinical.distance import Distance
from medtl_core.clinical.record import Clinical
from medtl_core.config import Settings, settings
from medtl_core.data.shared import shared_source
from medtl_core.errors import ConfigError, WeightsError
from medtl_core.federation.registry import read_methods
from medtl_core.federation.study import Study
from medtl_core.heads.crossval import fold_of
from medtl_core.heads.statistics import collect
from medtl_core.predict import Predictor, load
from medtl_core.predict.answer import Answer, placed
from medtl_core.predict.cases import NewCases, unlabelled
from medtl_core.predict.outliers import Outliers
from medtl_core.predict.saved import load_head, load_whole, save_head
from medtl_core.predict.thresholds import Thresholds
from medtl_core.values import Head
from server.clinical import check
from server.outliers import check as check_study
from server.outliers import outliers
from simulations.memory import MemoryHospitals
from tests.clinical.test_runs import SMALL, run
from tests.manifest import write_table
from tests.memory import PROBLEM, make_site

pytestmark = pytest.mark.usefixtures("one_torch_thread")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("far")
    run(folder, outliers=0.02, operating_points=0.9, methods="local,discriminant")
    return folder


def asked(*words: Any) -> dict[str, Any]:
    told = CliRunner().invoke(cli.app, ["predict", *map(str, words), "--format", "json"])
    assert told.exit_code == 0, told.output
    found: dict[str, Any] = json.loads(told.stdout)
    return found


def test_pictures_of_another_kind_are_not_answered_and_those_of_the_same_kind_are(folder: Path) -> None:
    head = folder / "seed-0" / "heads" / "discriminant"
    other = asked(head, "tissue")
    assert "98 of 100" in other["limit"]
    assert all(answer["distance"] > 1 and answer["answer"] is None for answer in other["answers"])
    assert all("unlike the training cases" in answer["doubt"] for answer in other["answers"])
    drawn = shared_source(settings(SMALL)).examples  # as the hospitals' were, in their size
    rows = np.flatnonzero(drawn["split"] == "test")[:100]
    cases = NewCases(tuple(map(str, rows)), unlabelled({"image": drawn["image"][rows]}))
    beyond = [answer.doubt for answer in load(head).answers(cases) if answer.distance > 1]  # type: ignore[operator]
    assert len(beyond) <= 8  # of a hundred, where two are promised
    told = CliRunner().invoke(cli.app, ["predict", str(head), "tissue"]).output
    assert "unlike   A case farther" in told and "no answer: it is unlike" in told


def test_a_head_without_distances_says_nothing_and_is_read_as_before(folder: Path) -> None:
    heads = folder / "seed-0" / "heads"
    local = next(heads.glob("local@*.json"))
    assert load(local).outliers is None and json.loads(local.read_text())["schema"] == 1
    assert "limit" not in asked(local, "phantom") and "distance" not in asked(local, "phantom")["answers"][0]
    assert json.loads((heads / "discriminant.json").read_text())["schema"] == 2  # what reads version 1 refuses it
    assert load_head(heads / "discriminant").facts.keys().isdisjoint({"outliers"})


def test_the_limit_is_set_on_cases_the_distances_never_saw() -> None:
    hospitals = MemoryHospitals([make_site(name, 90) for name in "abc"])
    study = Study(hospitals, PROBLEM, Settings(outliers=0.05), read_methods("discriminant"))
    found = outliers(study)
    assert found is not None and found.cases == 270 and found.share == 0.05
    sites = [*hospitals.sites.values()]
    fold = np.concatenate([fold_of(site.patients, site.label, 5, site.seed) for site in sites])
    values, label = (np.concatenate([getattr(site, name) for site in sites]) for name in ("values", "label"))
    held = np.zeros(270)
    for index in range(5):
        rest = Distance.of(collect(values[fold != index], label[fold != index], 3))
        held[fold == index] = rest.squared(values[fold == index])
    exact = np.sort(held)[int(np.ceil(0.95 * 271)) - 1]
    assert exact * 0.9999 <= found.limit <= exact * 1.03
    whole = Distance.of(collect(values, label, 3))
    np.testing.assert_allclose(found.distance.squared(values), whole.squared(values), rtol=1e-3)
    assert [request.phase for request in hospitals.asked].count("outliers") == 1
    beyond = found.far(make_site("d", 3000, seed=0).values) > 1
    assert 0.01 < beyond.mean() < 0.08


def test_too_few_cases_give_no_limit_and_that_is_said_first(
    hospitals: MemoryHospitals, caplog: pytest.LogCaptureFixture
) -> None:
    study = Study(hospitals, PROBLEM, Settings(outliers=0.001), read_methods("discriminant"))
    with pytest.raises(ConfigError, match=r"takes 999 training cases, and hospitals have 88; ask for 0\.012 or more"):
        check_study(study)
    check_study(Study(hospitals, PROBLEM, Settings(outliers=0.012), read_methods("discriminant")))
    assert outliers(study) is None
    assert "heads have none" in caplog.text
    assert outliers(Study(hospitals, PROBLEM, Settings(), read_methods("discriminant"))) is None


def test_a_class_that_one_fold_alone_has_is_told_to_hospitals_all_the_same() -> None:
    sites = [make_site(name, 40, skew=1) for name in "ab"]
    rare = make_site("c", 3)
    study = Study(MemoryHospitals([*sites, rare]), PROBLEM, Settings(outliers=0.1), read_methods("ridge"))
    found = outliers(study)
    assert found is not None and len(found.distance.means) == 3


def test_refusals(hospitals: MemoryHospitals) -> None:
    for words, said in (
        ({"outliers": 0.01, "privacy": "auto"}, "outliers needs privacy=none"),
        ({"outliers": 2.0}, r"a share in \(0, 1\)"),
    ):
        with pytest.raises(ConfigError, match=said):
            check(Settings(**words))  # type: ignore[arg-type]
    chosen = Settings(outliers=0.1)
    with pytest.raises(ConfigError, match="name auto, discriminant"):
        check_study(Study(hospitals, PROBLEM, chosen, read_methods("fedavg-2")))
    with pytest.raises(ConfigError, match="needs classes"):
        check_study(Study(hospitals, replace(PROBLEM, followed=True), chosen, read_methods("discriminant")))
    check_study(Study(hospitals, PROBLEM, chosen, read_methods("ridge,fedavg-2")))


def made() -> tuple[Head, Outliers]:
    values = np.random.default_rng(0).normal(size=(30, 3)).astype(np.float32)
    distance = Distance.of(collect(values, np.arange(30) % 2, 2))
    return Head(np.eye(2, 3), np.zeros(2), "made", ("a", "b"), "f" * 64), Outliers(distance, 9.0, 0.01, 300)


def test_distances_come_back_as_they_were(tmp_path: Path) -> None:
    head, far = made()
    again, found = load_whole(save_head(head, tmp_path, "h", far))
    assert found is not None and (found.limit, found.share, found.cases) == (9.0, 0.01, 300)
    np.testing.assert_array_equal(found.far(np.eye(3)), far.far(np.eye(3)))
    assert again.facts == {} and load_whole(save_head(again, tmp_path, "without"))[1] is None


@pytest.mark.parametrize(
    ("facts", "arrays"),
    [
        ({"limit": 0.0}, {}),
        ({"share": "few"}, {}),
        ({}, {"distance.scale": np.zeros(3, np.float32)}),
        ({}, {"distance.axes": np.zeros((2, 4), np.float32)}),
        ({}, {"distance.means": np.full((2, 3), np.nan, np.float32)}),
    ],
)
def test_damaged_distances_are_refused(facts: dict[str, Any], arrays: dict[str, Any]) -> None:
    _, far = made()
    with pytest.raises(WeightsError, match="distances are damaged"):
        Outliers.of({**far.facts, **facts}, {**far.arrays, **arrays}, 3)
    with pytest.raises(WeightsError, match="distances are damaged"):
        Outliers.of(far.facts, {}, 3)


def test_a_doubt_of_distance_comes_before_others() -> None:
    near, off = placed([Answer("a", {"x": 0.6}, doubt="low"), Answer("b", {"x": 0.6}, doubt="low")], np.array([0.5, 2]))
    assert (near.doubt, near.distance, off.distance) == ("low", 0.5, 2.0)
    assert "2.00 times as far" in off.doubt


# ---- thresholds ------------------------------------------------------------------------------------------------------


def test_a_run_leaves_its_thresholds_in_the_head_and_predict_uses_them(folder: Path) -> None:
    record = Clinical.read(folder / "seed-0")
    predictor = load(folder / "seed-0" / "heads" / "discriminant")
    assert record is not None and predictor.thresholds is not None
    rows = record.methods["discriminant"].classes
    assert predictor.thresholds.floors == {key: row.operating.floor for key, row in rows.items() if row.operating}
    assert predictor.thresholds.target == 0.9
    told = asked(folder / "seed-0" / "heads" / "discriminant", "phantom")
    assert "set to find 90% of its cases" in told["thresholds"]
    for answer in told["answers"]:
        share = answer["probabilities"]
        odds = {name: np.log(value / (1 - value)) for name, value in share.items()}
        assert set(answer.get("over", ())) == {name for name in odds if odds[name] >= predictor.thresholds.floors[name]}


@pytest.mark.parametrize(("floor", "said"), [(-2.0, "ill"), (2.0, "well")])
def test_of_two_classes_the_threshold_answers(floor: float, said: str) -> None:
    facts = {"ill": {"target": 0.9, "floor": floor, "specificity": 0.75}}
    found = Thresholds.of_facts(facts, ("well", "ill"))
    assert found is not None
    logits = np.array([[0.0, 1.0], [0.0, -1.0]])
    plain = [Answer("a", {"well": 0.27, "ill": 0.73}), Answer("b", {"well": 0.73, "ill": 0.27})]
    assert [answer.likeliest for answer in found.applied(plain, logits, ("well", "ill"))] == [said, said]
    assert "spared 75% of other training cases" in found.sentence and "The answer is by threshold" in found.sentence
    doubted = replace(plain[0], doubt="far")
    assert found.applied([doubted], logits[:1], ("well", "ill"))[0].likeliest == ""


def test_of_three_classes_the_likeliest_stays_the_answer() -> None:
    facts = {name: {"target": 0.8, "floor": -1.0} for name in "xyz"}
    found = Thresholds.of_facts(facts, ("x", "y", "z"))
    assert found is not None
    (answer,) = found.applied([Answer("a", {"x": 0.5, "y": 0.4, "z": 0.1})], np.log([[0.5, 0.4, 0.1]]), ("x", "y", "z"))
    assert (answer.likeliest, answer.over) == ("x", ("x", "y"))
    assert answer.as_dict()["over"] == ["x", "y"]


@pytest.mark.parametrize(
    "facts",
    [
        {"gone": {"target": 0.9, "floor": 0.0}},
        {"a": {"target": 0.9}},
        {"a": {"target": 0.9, "floor": 0.0}, "b": {"target": 0.8, "floor": 0.0}},
        {"a": {"target": 1.5, "floor": 0.0}},
        ["a"],
    ],
)
def test_damaged_thresholds_are_refused(facts: Any) -> None:
    with pytest.raises(WeightsError, match="'operating'"):
        Thresholds.of_facts(facts, ("a", "b"))


def test_a_table_of_two_classes_on_the_whole_road(tmp_path: Path) -> None:
    write_table(tmp_path / "cases.csv")
    words = {"backbone": "table", "features": "rich", "image-size": 0, "shots": 0, "methods": "ridge"}
    run(tmp_path / "run", data="", data_path=f"{tmp_path / 'cases.csv'}", operating_points=0.5, outliers=0.1, **words)
    predictor: Predictor = load(tmp_path / "run" / "seed-0" / "heads" / "ridge")
    assert predictor.thresholds is not None and predictor.outliers is not None
    answers = [*predictor.answers([tmp_path / "cases.csv"])]
    assert answers and all(answer.distance is not None for answer in answers)
