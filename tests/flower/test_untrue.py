"""Replies of the right form that cannot be true: refused and named before they are added, the run ends with the others.

What no check can tell from the truth stays a limit of a plain federation: features with their signs changed, labels
exchanged, trained weights that were made up.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Context, Message, RecordDict
from hypothesis import given, settings
from hypothesis import strategies as st

from client.app import app as client_app
from medtl_core.config import settings as chosen
from medtl_core.evaluation.federated import contradiction as untrue_verdict
from medtl_core.evaluation.federated import summarise
from medtl_core.federation.hospitals import ArraySpec
from medtl_core.flower.grid import run_local
from medtl_core.flower.records import pack
from medtl_core.heads.statistics import contradiction, diagonal, unpack, untrue, upper
from medtl_core.heads.statistics import pack as folded
from medtl_core.privacy.gate import GRID
from medtl_core.values import Array, Scores
from server.app import app as server_app
from tests.privacy.made import write_table

Twist = Callable[[str, Array], Array]

TWISTS: dict[str, Twist] = {
    "largest": lambda name, array: np.full_like(array, np.finfo(array.dtype).max),
    "counts below nothing": lambda name, array: -1000 * np.abs(array) if name in ("count", "counts") else array,
    "Gram below nothing": lambda name, array: -100 * array if name in ("gram", "square") else array,
    "a million times": lambda name, array: (1e6 * array).astype(array.dtype),
    "other signs": lambda name, array: (-10 * array).astype(array.dtype),
}


def evil(twist: Twist | None) -> Callable[[Message, Context], Message]:
    """The real ClientApp; one hospital twists what it answers, or answers nothing."""

    def app(message: Message, context: Context) -> Message:
        reply = client_app(message, context)
        if context.node_config["partition-id"] == 0 and message.metadata.message_type.startswith("train."):
            if twist is None:
                raise RuntimeError("no answer")
            arrays = {name: twist(name, array.numpy()) for name, array in reply.content["arrays"].items()}
            reply.content["arrays"] = pack(arrays)
        return reply

    return app


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("untrue") / "table.csv"
    write_table(path, 4, 24)
    return path


@pytest.fixture(scope="module")
def run(table: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., tuple[dict[str, Any], Path]]:
    def made(twist: Twist | None, **values: Any) -> tuple[dict[str, Any], Path]:
        out = tmp_path_factory.mktemp("out")
        common = {"data": "", "data-path": str(table), "backbone": "table", "sites": 4, "shots": 24, "bootstrap": 10}
        places = {"out": str(out), "state": str(out / "state"), "cache": "off"}
        nodes = [{"partition-id": part} for part in range(4)]
        run_config = chosen({**common, **places, **values}).public()
        run_local(server_app, evil(twist), node_configs=nodes, run_config=run_config)
        return json.loads((out / "result.json").read_text(encoding="utf-8")), out / "heads"

    return made


def named(result: dict[str, Any]) -> list[tuple[str, str]]:
    return [(failure["site"], failure["code"]) for failure in result["failures"]]


@pytest.fixture(scope="module")
def honest_three(run: Callable[..., Any]) -> dict[str, bytes]:
    _, heads = run(None, methods="ridge,discriminant,fedavg-2")
    return {path.name: path.read_bytes() for path in heads.glob("*.safetensors")}


@pytest.mark.parametrize("name", TWISTS)
def test_a_reply_that_cannot_be_true_is_refused_and_the_heads_are_those_of_the_others(
    run: Callable[..., Any], honest_three: dict[str, bytes], name: str
) -> None:
    result, heads = run(TWISTS[name], methods="ridge,discriminant,fedavg-2")
    code = "untrue" if name in ("Gram below nothing", "a million times") else "range"
    assert named(result) == [("s-1", code)]  # once: it is not asked again
    assert {path.name: path.read_bytes() for path in heads.glob("*.safetensors")} == honest_three


@pytest.mark.parametrize(
    "name", [name if name == "a million times" else pytest.param(name, marks=pytest.mark.door) for name in TWISTS]
)
def test_a_private_release_that_no_gate_has_made_is_refused(run: Callable[..., Any], name: str) -> None:
    result, _ = run(TWISTS[name], methods="private-prototypes", privacy="auto", epsilon=50.0)
    assert named(result) == [("s-1", "untrue" if name == "Gram below nothing" else "range")]
    assert result["methods"]["private-prototypes"]["figures"]["balanced_accuracy"] > 0.5


def test_private_releases_are_whole_units_of_the_grid(run: Callable[..., Any]) -> None:
    result, _ = run(lambda name, array: array + GRID / 2, methods="private-mean", privacy="auto", epsilon=50.0)
    assert named(result) == [("s-1", "step")]


def test_verdicts_that_count_other_cases_are_refused(run: Callable[..., Any]) -> None:
    for lie in ("hits", "confusion"):  # of the heads without a fold, and of the head
        twist = {lie: 1e6}.get
        result, _ = run(lambda name, array, more=twist: array + more(name, 0.0), methods="ridge", test="sites")
        assert named(result) == [("s-1", "untrue")]


# --- what is honest passes


@given(data=st.data(), cases=st.integers(1, 40), width=st.integers(1, 4), classes=st.integers(2, 4))
@settings(max_examples=25, deadline=None)
def test_true_sums_are_never_refused_and_lies_are(data: st.DataObject, cases: int, width: int, classes: int) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    scale = 10.0 ** data.draw(st.integers(-8, 8))
    values = scale * (rng.normal(0, 1, (cases, width)) + data.draw(st.sampled_from([0.0, 1.0, 1e6])))
    values[:, 0] = scale  # a constant feature
    label, fold = rng.integers(0, classes, cases), rng.integers(0, 3, cases)
    message = folded(values.astype(np.float32), label, classes, fold, 3).arrays  # sums, or roots of few cases
    assert untrue(message, cases) == ""
    assert ArraySpec(message["counts"].shape, least=0.0, step=1.0).fault(message["counts"]) == ""
    assert all(ArraySpec(array.shape).fault(array) == "" for array in message.values())
    parts = unpack(message)
    counts, sums = np.stack([part.counts for part in parts]), np.stack([part.sums for part in parts])
    squares = diagonal(np.stack([upper(part.gram) for part in parts]), width)
    np.testing.assert_array_equal(squares, [np.diag(part.gram) for part in parts])
    assert contradiction(counts, sums, squares, cases) == ""
    assert "registered" in contradiction(counts, sums, squares, cases + 1)
    assert "imply" in contradiction(counts, sums, squares - 0.1 * squares.max() - 1e-3, cases)
    absent, more = counts == 0, sums + (counts == 0)[..., None]
    assert not absent.any() or "no case" in contradiction(counts, more, squares, cases)


@given(seed=st.integers(0, 2**32), cases=st.integers(0, 30), classes=st.integers(2, 4))
@settings(max_examples=15, deadline=None)
def test_true_verdicts_are_never_refused_and_lies_are(seed: int, cases: int, classes: int) -> None:
    rng = np.random.default_rng(seed)
    logits, label = 30 * rng.normal(size=(cases, classes)), rng.integers(0, classes, cases)
    sums = dict(summarise(Scores(logits, label, np.full(cases, "a"), np.arange(cases))).arrays)
    assert all(ArraySpec(array.shape, least=0.0).fault(array) == "" for array in sums.values())
    stacked = {name: np.stack([array, array]) for name, array in sums.items()}
    assert untrue_verdict(sums, 7) == untrue_verdict(stacked, 7) == ""
    for name in ("positive", "negative", "confusion", "calibration", "sums"):
        for index in (0, 1):
            lie = {**stacked, name: stacked[name].copy()}
            lie[name][index].flat[0] += 1.0
            assert "other cases" in untrue_verdict(lie, 7)


def test_who_is_caught_is_not_asked_again(ward, toy, ask) -> None:
    def twist(part: int, content: RecordDict) -> RecordDict:
        lie = {"arrays": pack({"x": np.full((2, 3), 1e300)})}
        return RecordDict({**content, **lie}) if part == 1 else content

    hospitals = toy(twist=twist)
    joined = ward(hospitals).hospitals
    for _ in range(2):
        assert [reply.site for reply in joined.ask(ask())] == ["h000", "h002", "h003"]
    assert [(failure.site, failure.code) for failure in joined.failures] == [("h001", "range")]
    assert "not asked again" in joined.failures[0].text
    assert [part for part, _ in hospitals.asked].count(1) == 1


@pytest.mark.parametrize(
    ("spec", "values", "fault"),
    [
        (ArraySpec((2,)), [1e30, -1e30], ""),
        (ArraySpec((2,)), [1e31, 0.0], "range"),
        (ArraySpec((2,)), [np.nan, 1e300], "not-finite"),
        (ArraySpec((2,), least=0.0, step=1.0), [-0.0, 3.0], ""),
        (ArraySpec((2,), least=0.0, step=1.0), [0.5, 3.0], "step"),
        (ArraySpec((2,), least=0.0, step=1.0), [-1.0, 3.0], "range"),
        (ArraySpec((2,), step=0.3 * GRID), [0.3 * GRID * (2**35 + 1), 0.3 * GRID * -7], ""),
        (ArraySpec((2,), "float32", most=1e12), [3e38, 0.0], "range"),
        (ArraySpec((0,)), [], ""),
    ],
)
def test_what_numbers_an_array_can_hold(spec: ArraySpec, values: list[float], fault: str) -> None:
    assert spec.fault(np.array(values, spec.dtype)) == fault
