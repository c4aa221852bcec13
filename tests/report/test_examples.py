"""`medtl report --maps`: pictures of test cases, only where a person asks and may."""

import base64
import io
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from medtl_core.cli import app as cli
from medtl_core.cli.report_examples import picked
from medtl_core.config import settings
from medtl_core.data.shared import shared_parts, shared_source
from medtl_core.data.views import square
from medtl_core.deploy.overview import STARTED
from medtl_core.predict import load
from medtl_core.predict.answer import Answer
from medtl_core.predict.attribution import Attributor
from medtl_core.values import Array
from tests.predict.heads import film
from tests.report.reading import read

WORDS = ("sites=3", "shots=20", "features=plain", "image-size=64", "bootstrap=20", "methods=auto", "keep-scores=true")
CLASSES = ("normal", "consolidation", "interstitial")


def medtl(*words: object) -> Result:
    return CliRunner().invoke(cli.app, [*map(str, words)])


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of built-in films, which are of nobody."""
    folder = tmp_path_factory.mktemp("examples") / "run"
    ended = medtl("simulate", "quickstart", *WORDS, "--out", folder)
    assert ended.exit_code == 0, ended.exception or ended.output
    return folder


@pytest.fixture
def copy(run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(run, tmp_path / "run"))


def pictures(html: str) -> list[Array]:
    """The pictures of a page, as whoever opens it sees them."""
    found = [attrs["src"] or "" for tag, attrs in read(html).seen if tag == "img"]
    assert all(address.startswith("data:image/png;base64,") for address in found)
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2])))) for address in found]


def captions(html: str) -> list[str]:
    return [re.sub(r"<[^>]+>", " ", words) for words in re.findall(r"<figcaption>(<strong>.*?)</figcaption>", html)]


def rewritten(run: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Changes a run's record."""
    place = run / "seed-0" / "result.json"
    record = json.loads(place.read_text())
    change(record)
    place.write_text(json.dumps(record))


# --- what is shown


def test_no_picture_is_on_a_page_unless_a_person_asks_and_then_it_goes_again(copy: Path) -> None:
    page = copy / "report.html"
    before = page.read_bytes()
    assert b"<img" not in before and b"img-src" not in before
    assert medtl("report", copy, "--maps", 2).exit_code == 0
    asked = page.read_bytes()
    assert asked.count(b"<img ") == 2 and b"style-src 'unsafe-inline'; img-src data:\"" in asked
    assert medtl("report", copy, "--maps", 2).exit_code == 0 and page.read_bytes() == asked
    assert medtl("report", copy).exit_code == 0 and page.read_bytes() == before


def test_the_class_missed_most_is_shown_missed_and_found_by_its_middle_cases(copy: Path) -> None:
    ended = medtl("report", copy, "--maps", 3)
    assert "do not pass it on" not in ended.output  # films of nobody
    html = (copy / "report.html").read_text()
    assert "do not pass it on unless" not in html.lower()
    with np.load(copy / "seed-0" / "scores.npz") as saved:
        logits, label, site = saved["logits auto"], saved["label"], saved["site"]
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    right = logits.argmax(axis=1) == label
    missed = [1 - right[label == number].mean() for number in range(3)]
    order = np.argsort(missed)[::-1]
    expected = []
    for number, found in ((order[0], False), (order[0], True), (order[1], False)):
        rows = np.flatnonzero((label == number) & (right == found))
        row = rows[np.argsort(shares[rows, number])[(len(rows) - 1) // 2]]
        told = ", ".join(f"{CLASSES[one]}\N{NO-BREAK SPACE}{shares[row, one]:.3f}" for one in np.argsort(-shares[row]))
        expected.append(f" {CLASSES[number]}, {'found' if found else 'missed'}  · {site[row]} {told}")
    assert captions(html) == expected


def test_a_picture_stands_beside_the_map_that_predict_draws(copy: Path) -> None:
    assert medtl("report", copy, "--maps", 1).exit_code == 0
    (shown,) = pictures((copy / "report.html").read_text())
    assert shown.shape == (64, 64 + 2 + 64, 3) and (shown[:, 64:66] == 255).all()
    chosen = settings(json.loads((copy / "seed-0" / "result.json").read_text())["settings"])
    source, parts = shared_source(chosen), shared_parts(chosen)
    trained = source.examples.take(np.concatenate([site.train for site in parts.sites]))
    test = source.examples.take(parts.server_test)
    explainer = load(copy / "seed-0" / "heads" / "auto.json").attributor()
    assert isinstance(explainer, Attributor)
    explainer = explainer.against(trained)
    (image,) = (image for image in test["image"] if (square(image, 64) == shown[:, :64]).all())
    drawn = [explainer.explain(image, name)[0].shown() for name in CLASSES]
    assert sum((one == shown[:, 66:]).all() for one in drawn) == 1


def test_of_cases_the_middle_one_is_picked_and_a_class_without_cases_is_left_out() -> None:
    def told(well: float) -> Answer:
        return Answer("", {"ill": 1 - well, "well": well})

    answers = [told(share) for share in (0.9, 0.8, 0.7, 0.1, 0.2, 0.3, 0.6, 0.05)]
    label = np.array([1, 1, 1, 1, 0, 0, 0, 0])
    assert picked(label, answers, ("ill", "well", "rare")) == [6, 4, 3, 1]  # one of four is missed of either
    assert picked(label[:3], answers[:3], ("ill", "well", "rare")) == [1]  # none is missed


def test_of_patients_the_page_says_what_it_holds_and_names_no_file(tmp_path: Path) -> None:
    rows = []
    for number in range(40):
        made = film(tmp_path, number, 64)
        pixels = np.asarray(Image.open(made.path))
        name = f"Smith-{number}.png"
        Image.fromarray(pixels if number % 2 else 255 - pixels).save(tmp_path / name)
        rows.append(f"{name},{'ill' if number % 2 else 'well'},p{number},{'north' if number % 4 < 2 else 'south'}")
    (tmp_path / "manifest.csv").write_text("\n".join(["path,label,patient_id,site", *rows]) + "\n")
    (tmp_path / "task.json").write_text('{"name": "films", "classes": ["well", "ill"]}')
    words = ("sites=2", "shots=0", "features=plain", "image-size=64", "bootstrap=2", "methods=auto")
    ended = medtl("simulate", "--data", tmp_path, *words, "--out", tmp_path / "run")
    assert ended.exit_code == 0, ended.exception or ended.output
    ended = medtl("report", tmp_path / "run", "--maps", 4)
    assert ended.exit_code == 0 and "do not pass it on unless you may" in ended.output
    html = (tmp_path / "run" / "report.html").read_text()
    assert len(pictures(html)) == 2  # none is missed, so one that is found of each class
    assert "This page holds pictures of cases. Do not pass it on unless you may." in read(html).text
    assert "Smith-" not in html
    page = (tmp_path / "run" / "report.html").read_bytes()
    for name in rows:
        (tmp_path / name.partition(",")[0]).unlink()
    ended = medtl("report", tmp_path / "run", "--maps", 4)
    assert ended.exit_code == 1 and "Smith-" not in str(ended.exception)
    assert (tmp_path / "run" / "report.html").read_bytes() == page


# --- what is not


def without_a_head(run: Path) -> None:
    (run / "seed-0" / "heads" / "auto.json").unlink()


def of_real_hospitals(run: Path) -> None:
    for place in (run / "seed-0").iterdir():
        place.rename(run / place.name)
    (run / "seed-0").rmdir()


def of_enrolled_hospitals(run: Path) -> None:
    (run / STARTED).write_text("{}")  # as `medtl coordinator run` leaves it


def with_(**changes: object) -> Callable[[Path], None]:
    words = {name.replace("_", "-"): value for name, value in changes.items()}
    return lambda run: rewritten(run, lambda record: record["settings"].update(words))


def one_case_more(record: dict[str, Any]) -> None:
    record["methods"]["auto"]["confusion"][0][0] += 1


def other_answers(record: dict[str, Any]) -> None:
    row = record["methods"]["auto"]["confusion"][0]
    record["methods"]["auto"]["confusion"][0] = [row[2], row[1], row[0]]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (with_(privacy="private-mean", keep_scores=False), "it is private, and a picture would tell what it promised"),
        (with_(test="sites", keep_scores=False), "its hospitals judged on cases of their own"),
        (with_(backbone="table"), "it reads table, and has no maps on pictures; leave --maps out"),
        (with_(backbone="text:words"), "it reads text:words, and has no maps on pictures"),
        (with_(backbone="signal:spectrum"), "it reads signal:spectrum, and has no maps on pictures"),
        (with_(backbone="lite0+table"), "it reads lite0+table, and has no maps on pictures"),
        (with_(data="", data_path="/nowhere/films"), "/nowhere/films does not exist"),
        (of_real_hospitals, "its hospitals were real and keep their cases"),
        (of_enrolled_hospitals, "its hospitals were real and keep their cases"),
        (without_a_head, "that answers for all hospitals"),
        (lambda run: rewritten(run, one_case_more), "the test cases are not those of the run; the data have changed"),
        (lambda run: rewritten(run, other_answers), "the head answers otherwise than in the run"),
    ],
)
def test_what_cannot_be_shown_is_said_in_a_sentence_and_the_report_stays(
    copy: Path, change: Callable[[Path], None], words: str
) -> None:
    before = (copy / "report.html").read_bytes()
    change(copy)
    ended = medtl("report", copy, "--maps", 4)
    assert ended.exit_code == 1 and words in str(ended.exception)
    assert (copy / "report.html").read_bytes() == before


def test_a_model_without_maps_is_refused(tmp_path: Path) -> None:
    words = [word for word in WORDS if not word.startswith("methods")]
    ended = medtl("simulate", "quickstart", *words, "methods=metric", "--out", tmp_path / "run")
    assert ended.exit_code == 0, ended.exception or ended.output
    ended = medtl("report", tmp_path / "run", "--maps", 1)
    assert ended.exit_code == 1 and "a model of kind metric has no maps" in str(ended.exception)


@pytest.mark.parametrize("most", [0, -1, 9])
def test_so_many_pictures_are_on_no_page(copy: Path, most: int) -> None:
    ended = medtl("report", copy, "--maps", most)
    assert ended.exit_code == 1 and f"--maps {most} must be from 1 to 8 pictures" in str(ended.exception)


def test_a_hospitals_own_page_shows_no_case(copy: Path) -> None:
    ended = medtl("report", copy, "--maps", 1, "--hospital", "phantom-a")
    assert ended.exit_code == 1 and "leave --hospital or --maps out" in str(ended.exception)
    assert not (copy / "hospital-phantom-a.html").exists()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_page_with_pictures_stays_out_of_mlflow(copy: Path, tmp_path: Path) -> None:
    pytest.importorskip("mlflow", reason="mlflow is not installed")
    for number, more in enumerate(((), ("--maps", 1))):
        store = tmp_path / f"store-{number}"
        assert medtl("report", copy, *more).exit_code == 0
        assert medtl("track", copy, "--mlflow", store).exit_code == 0
        assert bool([*store.rglob("report.html")]) == (not more) and [*store.rglob("metrics.json")]
