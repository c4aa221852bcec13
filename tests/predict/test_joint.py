"""`medtl predict` on heads that read an image, a note and a table: a manifest row may lack any of them."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from scipy.special import softmax

from medtl_core.cli import app as cli
from medtl_core.config import Settings, settings
from medtl_core.errors import ConfigError, DataError
from medtl_core.features.extract import extract, feature_spec
from medtl_core.features.spec import feature_facts
from medtl_core.federation.outcome import Problem
from medtl_core.methods.models.fused import Fused, kinds_of, modalities
from medtl_core.notes.text import HashedWords
from medtl_core.predict import Predictor, load
from medtl_core.predict.cases import unlabelled
from medtl_core.predict.saved import save_head, save_model
from medtl_core.serve.app import Service
from medtl_core.values import Array, Head
from tests.predict.heads import film

pytestmark = pytest.mark.usefixtures("one_torch_thread")

CLASSES = ("benign", "other", "malign")
COLUMNS = ("clinic:age", "clinic:size", "gene:a")
NOTE = "A dark spot that grew, with an irregular border."
CHOSEN = settings(
    {"backbone": "random:squeezenet1_1+text:words+table", "features": "plain", "image-size": 32, "cache": "off"}
)
SPEC = feature_spec(CHOSEN, (), COLUMNS)
PROBLEM = Problem(CLASSES, SPEC.fingerprint, SPEC.groups)
FACTS = {"features": {**feature_facts(CHOSEN, ()), "columns": [*COLUMNS]}}
WEIGHTS = {"random:squeezenet1_1": 0.25, "text:words": 0.5, "table.clinic": 0.25, "table.gene": 0.0}


def drawn(width: int) -> Array:
    return np.random.default_rng(3).normal(scale=0.1, size=(3, width))


def fused(folder: Path) -> tuple[Predictor, Array]:
    """A fused head of random weights, and these [M, C, d + 1]."""
    parts, heads = modalities(PROBLEM), np.zeros((4, 3, SPEC.width + 1))
    assert [part.name for part in parts] == [*WEIGHTS]
    for place, part in enumerate(parts):
        heads[place, :, part.start : part.stop] = drawn(part.stop - part.start)
        heads[place, :, -1] = [0.1 * place, 0.0, -0.2]
    bounds = np.asarray([part.row for part in parts])
    model = Fused(tuple(WEIGHTS), heads, np.array([*WEIGHTS.values()]), bounds, CLASSES, SPEC.fingerprint, FACTS)
    return load(save_model(model.pack(), model.kind, folder, "fused")), heads


def affine(folder: Path, *, told: bool) -> Predictor:
    """An affine head on all features, which says or not what the mean of each kind adds."""
    weight = np.column_stack([drawn(SPEC.width), np.zeros(3)])
    kinds = kinds_of(PROBLEM, weight, np.full(SPEC.width, 0.5)) if told else {}
    head = Head(weight[:, :-1], weight[:, -1], "made", CLASSES, SPEC.fingerprint, {**FACTS, **kinds})
    return load(save_head(head, folder, "affine"))


def written(folder: Path, *rows: Sequence[object], header: Sequence[str] = ("path", "note", *COLUMNS)) -> Path:
    with (folder / "new.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    return folder / "new.csv"


def run(*words: object) -> Result:
    return CliRunner().invoke(cli.app, ["predict", *map(str, words)])


def shares(result: Result) -> list[dict[str, object]]:
    return [json.loads(line) for line in result.stdout.splitlines()]


def picture(path: Path) -> Array:
    """Features of a picture, by the images' own road."""
    alone = CHOSEN.replace(backbone="random:squeezenet1_1")
    cases = unlabelled({"path": np.asarray([str(path)])})
    return extract(cases, feature_spec(alone, ()), alone).values[0].astype(np.float64)


def test_an_image_a_note_and_columns_are_answered_with_what_each_adds(tmp_path: Path) -> None:
    _, heads = fused(tmp_path)
    path = film(tmp_path).path
    place = written(
        tmp_path,
        ["film 0.png", NOTE, 0.5, 2, -1, 1],
        ["film 0.png", "", "", "", "", 1],
        ["", NOTE, "", "", 3, 1],
        ["", "", 0.5, 2, "", 1],
        ["", "", "", "", 3, 1],
        ["", "", "", "", "", "4 east"],
        header=("path", "note", *COLUMNS, "ward"),
    )
    told = shares(run(tmp_path / "fused", place, "--explain", "--format", "jsonl"))
    image, note, clinic = (
        picture(path),
        HashedWords().features(NOTE, Settings()).astype(np.float64),
        np.array([0.5, 0, 2, 0]),
    )
    parts = [
        weight * (row @ head[:, part.start : part.stop].T + head[:, -1])
        for weight, row, head, part in zip(
            WEIGHTS.values(), (image, note, clinic), heads, modalities(PROBLEM)[:3], strict=False
        )
    ]
    expected = [sum(parts), parts[0] / 0.25, parts[1] / 0.5, parts[2] / 0.25]
    for answer, logits in zip(told, expected, strict=False):
        assert answer["probabilities"] == pytest.approx(dict(zip(CLASSES, softmax(logits), strict=True)), abs=1e-5)
    best = int(np.argmax(expected[0]))
    contrast = np.where(np.arange(3) == best, 1.0, -0.5)
    added = told[0]["parts"]
    assert isinstance(added, dict)
    assert added == pytest.approx(dict(zip(WEIGHTS, [*(float(part @ contrast) for part in parts), 0.0], strict=True)))
    assert [*map(abs, added.values())] == sorted(map(abs, added.values()), reverse=True)
    assert told[4]["answer"] and not told[4]["doubt"]  # genes have no weight, but are all that is there
    assert told[5]["answer"] is None and "none of the kinds" in str(told[5]["doubt"])


def test_parts_of_an_affine_head_count_from_the_mean_of_each_kind(tmp_path: Path) -> None:
    affine(tmp_path, told=True)
    place = written(tmp_path, ["", NOTE, 0.5, 2, -1])
    ended = run(tmp_path / "affine", place, "--explain", "--format", "jsonl")
    (told,) = shares(ended)
    row = np.concatenate([np.zeros(512), HashedWords().features(NOTE, Settings()), [0.5, 0, 2, 0, -1, 0]]).astype(
        np.float64
    )
    assert len(row) == SPEC.width
    names = [*CLASSES]
    contrast = np.where(np.arange(3) == names.index(str(told["answer"])), 1.0, -0.5)
    weighted = (contrast @ drawn(SPEC.width)) * (row - 0.5)
    expected = {part.name: float(weighted[part.start : part.stop].sum()) for part in modalities(PROBLEM)}
    assert told["parts"] == pytest.approx(expected, rel=1e-5)


def test_of_any_other_head_a_part_is_what_is_lost_without_the_kind(tmp_path: Path) -> None:
    affine(tmp_path, told=False)
    (told,) = shares(
        run(tmp_path / "affine", written(tmp_path, ["", NOTE, 0.5, 2, ""]), "--explain", "--format", "jsonl")
    )
    note, clinic = HashedWords().features(NOTE, Settings()).astype(np.float64), np.array([0.5, 0, 2, 0, 0, 1])
    contrast = np.where(np.arange(3) == CLASSES.index(str(told["answer"])), 1.0, -0.5) @ drawn(SPEC.width)
    assert told["parts"] == pytest.approx(
        {
            "random:squeezenet1_1": 0.0,
            "text:words": float(contrast[512:-6] @ note),
            "table": float(contrast[-6:] @ (clinic - np.tile([0.0, 1.0], 3))),
        },
        rel=1e-5,
    )


def test_notes_in_files_and_a_case_at_fault_costs_that_case(tmp_path: Path) -> None:
    predictor, _ = fused(tmp_path)
    (tmp_path / "a.txt").write_text(NOTE, encoding="utf-8")
    header = ("note_path", *COLUMNS, "ward")
    rows = (["a.txt", "", "", "", 1], ["", 1, 2, 3, 1], ["../b.txt", 1, 2, 3, 1], ["a.txt", "much", 1, 1, 1])
    answers = {one.name: one for one in predictor.answers([written(tmp_path, *rows, header=header)])}
    assert [not answers[f"row {number}"].fault for number in (2, 3, 4, 5)] == [True, True, False, False]
    (tmp_path / "alone").mkdir()
    (alone,) = predictor.answers([written(tmp_path / "alone", [NOTE], header=["note"])])
    assert alone.probabilities == pytest.approx(answers["row 2"].probabilities)
    bad = written(tmp_path / "alone", ["Mr. Miller was seen."], [NOTE], header=["note"])
    assert [bool(one.fault) for one in predictor.answers([bad])] == [True, False]
    assert "Miller" not in str([one.fault for one in predictor.answers([bad])])


@pytest.mark.parametrize(
    ("header", "words"),
    [
        (("note", "clinic:age"), "'clinic:size', which the head reads, is missing"),
        (("ward",), ""),
    ],
)
def test_kinds_may_be_missing_whole_and_no_single_column(tmp_path: Path, header: Sequence[str], words: str) -> None:
    predictor, _ = fused(tmp_path)
    place = written(tmp_path, [1] * len(header), header=header)
    if words:
        with pytest.raises(DataError, match=words):
            [*predictor.answers([place])]
    else:
        (answer,) = predictor.answers([place])
        assert answer.doubt and not answer.likeliest
    other = affine(tmp_path, told=False)  # which reads zeros as values
    with pytest.raises(DataError, match="'path', which the head reads, is missing"):
        [*other.answers([place])]
    rows, every = ([""] * 5 + ["x"], [""] * 4 + [1, "x"]), ("path", "note", *COLUMNS, "ward")
    none, some = other.answers([written(tmp_path, *rows, header=every)])
    assert "none of the kinds" in none.fault and some.probabilities


def test_what_cannot_be_asked_of_several_kinds_is_refused(tmp_path: Path) -> None:
    predictor, _ = fused(tmp_path)
    with pytest.raises(DataError, match="name a CSV file"):
        [*predictor.answers([film(tmp_path).path])]
    with pytest.raises(ConfigError, match="several kinds"):
        predictor.occluder()
    with pytest.raises(ConfigError, match="one file holds not all"):
        Service(predictor, None)  # type: ignore[arg-type]
