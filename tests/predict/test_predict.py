"""`medtl predict` on heads of real runs: the same probabilities by another road, every form, every refusal."""

import csv
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image
from safetensors.numpy import load_file
from scipy.special import softmax

from medtl_core.cli import app as cli
from medtl_core.cli.simulate import simulate
from medtl_core.config import settings
from medtl_core.data.synthetic.phantom import phantom
from medtl_core.errors import ConfigError, DataError, MedtlError, WeightsError
from medtl_core.features.extract import extract, feature_spec
from medtl_core.flower.run import RunPlan
from medtl_core.predict import load
from medtl_core.predict.answer import log_prevalence
from medtl_core.values import Examples, Task

ROOT = Path(__file__).resolve().parents[2]
CLASSES = ("normal", "consolidation", "interstitial")
COLUMNS = ("age", "pressure")

pytestmark = pytest.mark.usefixtures("one_torch_thread")


def run(*words: object) -> Result:
    return CliRunner().invoke(cli.app, ["predict", *map(str, words)])


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A head for pictures, of a tiny federation."""
    out = tmp_path_factory.mktemp("federation") / "run"
    values = {"data": "phantom", "sites": 3, "shots": 16, "image-size": 32, "features": "4", "bootstrap": 1}
    simulate(RunPlan(settings({**values, "methods": "discriminant,fedavg-1"}), 1, 1, False, out, ROOT, "tiny"))
    return out / "seed-0" / "heads" / "discriminant"


@pytest.fixture(scope="module")
def table_head(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A head for a table whose second column decides."""
    folder = tmp_path_factory.mktemp("table")
    rng, rows = np.random.default_rng(0), ["label,site,patient_id,age,pressure"]
    for number in range(120):
        ill = number % 2
        age, pressure = rng.normal(50, 9), rng.normal(100 + 40 * ill, 9)
        rows.append(f"{('well', 'ill')[ill]},{'ab'[number // 60]},p{number},{age:.1f},{pressure:.1f}")
    (folder / "table.csv").write_text("\n".join(rows) + "\n")
    values = {"data": "", "data-path": str(folder / "table.csv"), "backbone": "table", "sites": 2, "shots": 0}
    chosen = settings({**values, "methods": "ridge", "bootstrap": 1, "cache": "off"})
    simulate(RunPlan(chosen, 1, 1, False, folder / "run", ROOT, "table"))
    return folder / "run" / "seed-0" / "heads" / "ridge"


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Six pictures, and one file that is none."""
    folder = tmp_path / "new"
    (folder / "deeper").mkdir(parents=True)
    for row, pixels in enumerate(phantom(seed=9, size=32, patients=10)["image"][:6]):
        Image.fromarray(pixels[:, :, 0]).save(folder / ("deeper" if row > 3 else ".") / f"{row}.png")
    (folder / "letter.doc").write_bytes(b"no picture")
    return folder


def test_probabilities_are_the_softmax_of_the_saved_arrays_on_the_agreed_features(head: Path, pictures: Path) -> None:
    answers = list(load(head).answers([pictures]))
    paths = [str(pictures / f"{row}.png") for row in range(4)] + [
        str(pictures / "deeper" / f"{row}.png") for row in (4, 5)
    ]
    assert sorted(answer.name for answer in answers) == sorted(paths)
    words = {name: np.full(6, "x") for name in ("patient", "site", "split")}
    cases = Examples({"label": np.zeros(6, np.int64), "path": np.asarray(paths), **words}, Task("t", CLASSES))
    chosen = settings({"image-size": 32, "features": "4", "cache": "off"})
    values = extract(cases, feature_spec(chosen, ("identity", "flip-h")), chosen).values.astype(np.float64)
    arrays = load_file(head.with_suffix(".safetensors"))
    expected = dict(zip(paths, softmax(values @ arrays["weight"].T + arrays["bias"], axis=1), strict=True))
    for answer in answers:
        assert tuple(answer.probabilities) == CLASSES
        np.testing.assert_allclose([*answer.probabilities.values()], expected[answer.name], atol=1e-6)
        assert answer.likeliest == CLASSES[int(expected[answer.name].argmax())]


def test_a_case_that_cannot_be_read_costs_that_case_and_the_exit_code(head: Path, pictures: Path) -> None:
    (pictures / "1.png").write_bytes((pictures / "1.png").read_bytes()[:60])
    ended = run(head, pictures, "--format", "jsonl")
    rows = [json.loads(line) for line in ended.stdout.splitlines()]
    assert (ended.exit_code, len(rows)) == (1, 6)
    assert [Path(row["case"]).name for row in rows if row["fault"]] == ["1.png"]
    assert all(row["answer"] in CLASSES for row in rows if not row["fault"])
    assert "letter.doc" in ended.stderr


def test_one_by_one_and_all_together_say_the_same(head: Path, tmp_path: Path) -> None:
    for row, pixels in enumerate(phantom(seed=3, size=32, patients=20)["image"][:18]):
        Image.fromarray(pixels[:, :, 0]).save(tmp_path / f"{row:02d}.png")
    (tmp_path / "05.png").write_bytes((tmp_path / "05.png").read_bytes()[:60])
    predictor = load(head)
    together = list(predictor.answers([tmp_path]))
    alone = [answer for path in sorted(tmp_path.iterdir()) for answer in predictor.answers([path])]
    assert [answer.fault for answer in together] == [answer.fault for answer in alone]
    assert [Path(answer.name).stem for answer in together if answer.fault] == ["05"]
    for one, other in zip(together, alone, strict=True):
        assert dict(one.probabilities) == pytest.approx(dict(other.probabilities), abs=1e-6)


@pytest.mark.parametrize("form", ["text", "json", "jsonl", "csv", "html"])
def test_every_form_tells_the_same(head: Path, pictures: Path, tmp_path: Path, form: str) -> None:
    shutil.copy(pictures / "0.png", pictures / "<b>&.png")
    expected = {answer.name: answer for answer in load(head).answers([pictures])}
    ended = run(head, pictures, "--format", form, "--out", tmp_path / "answers")
    text = (tmp_path / "answers").read_text(encoding="utf-8")
    assert ended.exit_code == 0
    if form in ("json", "jsonl"):
        rows = json.loads(text)["answers"] if form == "json" else [json.loads(line) for line in text.splitlines()]
        assert {row["case"]: row["probabilities"] for row in rows} == {
            name: dict(answer.probabilities) for name, answer in expected.items()
        }
    elif form == "csv":
        rows = list(csv.DictReader(io.StringIO(text)))
        assert {row["case"]: row["answer"] for row in rows} == {name: one.likeliest for name, one in expected.items()}
        assert all(abs(sum(float(row[name]) for name in CLASSES) - 1) < 1e-5 for row in rows)
    else:
        assert all(one.likeliest in text for one in expected.values())
        assert ("<b>" in text) == (form == "text")
    assert run(head, pictures, "--format", form, "--out", tmp_path / "answers").exit_code == 1
    assert (tmp_path / "answers").read_text(encoding="utf-8") == text


def test_a_prevalence_is_bayes_rule(head: Path, pictures: Path) -> None:
    plain, shares = load(head), {"normal": 0.9, "consolidation": 0.06, "interstitial": 0.04}
    for before, after in zip(plain.answers([pictures]), plain.answers([pictures], prevalence=shares), strict=True):
        joint = {name: share * shares[name] for name, share in before.probabilities.items()}
        for name, share in after.probabilities.items():
            assert share == pytest.approx(joint[name] / sum(joint.values()), abs=1e-9)
    said = run(
        head, pictures / "0.png", "--prevalence", "normal=0.9,consolidation=0.06", "--prevalence", "interstitial=0.04"
    )
    assert said.exit_code == 0 and "0.06" in said.stdout


@pytest.mark.parametrize("shares", [{"ill": 1.0}, {"ill": 0.5, "well": 0.6}, {"ill": 1.0, "well": 0.0}, {"sick": 1.0}])
def test_a_prevalence_that_is_none_is_refused(shares: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="prevalence"):
        log_prevalence(shares, ("ill", "well"))


def test_an_answer_less_probable_than_asked_is_in_doubt(head: Path, pictures: Path) -> None:
    for answer in load(head).answers([pictures], least=1.0):
        assert answer.likeliest == "" and "below 1" in answer.doubt and len(answer.probabilities) == 3


def test_a_colour_picture_for_a_head_of_grey_ones_is_in_doubt(head: Path, tmp_path: Path) -> None:
    pixels = np.zeros((64, 64, 3), np.uint8)
    for name, square in (("grey.png", (90, 90, 90)), ("colour.png", (200, 0, 0))):
        pixels[16:48, 16:48] = square
        Image.fromarray(pixels).save(tmp_path / name)
    odd = {"even.png": np.full((64, 64), 7), "even.tif": np.ones((64, 64, 3)), "small.png": np.eye(15)}
    for name, grey in odd.items():
        Image.fromarray(grey.astype(np.uint8)).save(tmp_path / name)
    doubts = {Path(answer.name).name: answer.doubt for answer in load(head).answers([tmp_path])}
    assert "colour" in doubts["colour.png"] and not doubts["grey.png"] and "fewer than 16" in doubts["small.png"]
    assert "shows nothing" in doubts["even.png"] and doubts["even.tif"] == doubts["even.png"]


def test_columns_stand_in_any_order_and_others_beside_them(table_head: Path, tmp_path: Path) -> None:
    for name, text in {
        "a.csv": "age,pressure\n50,141\n50,99\n50,\n",
        "b.csv": "name;pressure;age\nEve;141;50\nAda;99;50\nUna;;50\n",
    }.items():
        (tmp_path / name).write_text(text)
    one, other = ([*load(table_head).answers([tmp_path / name])] for name in ("a.csv", "b.csv"))
    assert [answer.likeliest for answer in one[:2]] == ["ill", "well"]
    assert [answer.probabilities for answer in one] == [answer.probabilities for answer in other]
    assert [answer.name for answer in one] == ["row 2", "row 3", "row 4"]


def test_a_column_that_was_never_empty_may_not_be_so_in_a_new_case(table_head: Path, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("age,pressure\n50,\n50,99\nk.A.,141\n")
    answers = [*load(table_head).answers([tmp_path / "a.csv"])]
    assert [answer.doubt.partition(" is empty")[0] for answer in answers] == ["column 'pressure'", "", "column 'age'"]


def test_a_cell_that_is_no_number_costs_its_row_and_is_not_quoted(table_head: Path, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("age,pressure\nMrs Jones,141\n50,99\n")
    ended = run(table_head, tmp_path / "a.csv", "--format", "jsonl")
    rows = [json.loads(line) for line in ended.stdout.splitlines()]
    assert ended.exit_code == 1 and "Jones" not in ended.output
    assert {row["case"]: bool(row["fault"]) for row in rows} == {"row 2": True, "row 3": False}


def test_a_new_table_is_read_and_refused_as_one_to_train_on(table_head: Path, tmp_path: Path) -> None:
    files = {
        "a.csv": "age,pressure\n50.5,141\n",
        "b.tsv": "age\tpressure\n50,5\t141\n",
        "c.csv": "age;pressure\n50,5;1.141\n",
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    one, other = (run(table_head, tmp_path / name, "--format", "jsonl").stdout for name in ("a.csv", "b.tsv"))
    assert json.loads(one)["probabilities"] == json.loads(other)["probabilities"]
    ended = run(table_head, tmp_path / "c.csv")  # which may mean 1141
    assert isinstance(ended.exception, DataError) and ended.stdout == ""
    assert "points in column 'pressure', and the file has decimal commas" in str(ended.exception)


@pytest.mark.parametrize(
    ("spoil", "error", "words"),
    [
        (lambda head: head.with_suffix(".safetensors").write_bytes(b"x"), WeightsError, "auto|discriminant|head"),
        (lambda head: _edit(head, '"image_size": 32', '"image_size": 48'), WeightsError, "another network"),
        (
            lambda head: _edit(head, '"backbone": "lite0"', '"backbone": "random:lite0"'),
            WeightsError,
            "another network",
        ),
        (lambda head: _edit(head, '"entry_views"', '"entry_sights"'), WeightsError, "does not say"),
        (lambda head: _edit(head, '"consolidation"', '"normal"'), WeightsError, "each class once"),
        (lambda head: head.with_suffix(".json").unlink(), WeightsError, "auto|discriminant|head"),
    ],
)
def test_a_head_of_another_network_or_a_damaged_one_is_refused(
    head: Path, tmp_path: Path, spoil: Callable[[Path], object], error: type[MedtlError], words: str
) -> None:
    for suffix in (".json", ".safetensors"):
        shutil.copy(head.with_suffix(suffix), tmp_path)
    spoil(tmp_path / head.name)
    with pytest.raises(error, match=words):
        load(tmp_path / head.name)


def _edit(head: Path, old: str, new: str) -> None:
    text = head.with_suffix(".json").read_text()
    assert old in text
    head.with_suffix(".json").write_text(text.replace(old, new))


@pytest.mark.parametrize("empty", [True, False])
def test_a_place_without_a_case_is_refused(head: Path, tmp_path: Path, empty: bool) -> None:
    if empty:
        (tmp_path / "place").mkdir()
    with pytest.raises(DataError):
        list(load(head).answers([tmp_path / "place"]))


def test_a_table_for_a_head_of_images_has_no_answer(head: Path, tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text("age,pressure\n50,99\n")
    (answer,) = load(head).answers([tmp_path / "table.csv"])
    assert answer.fault and not answer.probabilities


@pytest.mark.parametrize("text", ["age\n50\n", "age,Pressure\n50,99\n", "", "Jones,77\n50,99\n", "Jones;77\n1;2\n"])
def test_a_table_without_a_column_of_the_head_is_refused(table_head: Path, tmp_path: Path, text: str) -> None:
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(DataError) as raised:
        list(load(table_head).answers([tmp_path / "a.csv"]))
    assert "Jones" not in str(raised.value)  # without a header the first line is a patient's


def test_the_built_in_pictures_answer_in_one_line(head: Path) -> None:
    ended = run(head, "phantom")
    assert ended.exit_code == 0 and ended.stdout.count("drawn as") == 8


def test_a_built_in_set_without_pictures_is_refused_by_a_head_of_pictures(head: Path) -> None:
    ended = run(head, "letters")
    assert ended.exit_code == 1 and isinstance(ended.exception, DataError)


def test_findings_have_probabilities_of_their_own(tmp_path: Path) -> None:
    rng, rows = np.random.default_rng(1), ["patient_id,site,tired,fever,x,y"]
    for number in range(160):
        x, y = rng.normal(size=2)
        rows.append(f"p{number},{'ab'[number % 2]},{int(x > 0)},{int(y > 0)},{x:.3f},{y:.3f}")
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "manifest.csv").write_text("\n".join(rows) + "\n")
    (folder / "task.json").write_text(json.dumps({"name": "t", "kind": "multi-label", "classes": ["tired", "fever"]}))
    values = {"data": "", "data-path": str(folder), "backbone": "table", "sites": 2, "shots": 0, "cache": "off"}
    chosen = settings({**values, "methods": "auto", "bootstrap": 1})
    simulate(RunPlan(chosen, 1, 1, False, tmp_path / "run", ROOT, "findings"))
    (tmp_path / "new.csv").write_text("x,y\n2,2\n2,-2\n-2,-2\n")
    head = tmp_path / "run" / "seed-0" / "heads" / "auto"
    answers = list(load(head).answers([tmp_path / "new.csv"]))
    assert [answer.likeliest for answer in answers] == ["tired, fever", "tired", "no finding"]
    assert sum(answers[0].probabilities.values()) > 1
    assert run(head, tmp_path / "new.csv", "--prevalence", "tired=0.5,fever=0.5").exit_code == 1
