"""What is said about rows: intervals over seeds, spent epsilon, and where a mechanism is at chance."""

import pytest

from medtl_core.sweep.findings import lines, overspent, sentences
from medtl_core.sweep.rows import Row

CHANCE = 1 / 3


def row(accuracy: float | None, seed: int = 0, epsilon: float | None = 1.0, **changes: object) -> Row:
    values: dict[str, object] = {
        "data": "phantom", "shots": 30, "sum": "secure", "method": "private-mean", "seed": seed, "epsilon": epsilon,
        "spent": epsilon, "delta": 1e-5, "public_cases": 20, "balanced_accuracy": accuracy, "auroc": 0.7,
        "worst_site": 0.2, "bytes_up": 100 + seed,
    }  # fmt: skip
    return Row(**(values | changes))  # type: ignore[arg-type]


def test_a_point_has_an_interval_over_its_seeds() -> None:
    (found,) = lines([row(0.5, 0), row(0.6, 1), row(0.7, 2, spent=0.9)], CHANCE, {})
    (point,) = found["points"]
    assert [round(point["balanced_accuracy"][key], 3) for key in ("mean", "low", "high")] == [0.6, 0.352, 0.848]
    assert (point["seeds"], point["spent"], point["bytes_up"], point["at_chance"]) == (3, 1.0, 101, False)


def test_one_seed_takes_its_bootstrap_and_none_is_not_judged() -> None:
    key = (30, "secure", "private-mean", 1.0)
    (found,) = lines([row(0.4)], CHANCE, {key: {"balanced_accuracy": [0.3, 0.5]}})
    assert found["points"][0]["at_chance"] is True
    (found,) = lines([row(0.4)], CHANCE, {})
    assert found["points"][0]["at_chance"] is None
    assert list(sentences([found], CHANCE)) == [
        "private-mean (secure sum): not known at epsilon 1, where there is no interval."
    ]


def test_every_epsilon_is_in_the_sentence_and_references_have_none() -> None:
    rows = [row(accuracy + jitter, seed, epsilon)
            for epsilon, accuracy in ((4.0, 0.6), (0.5, 0.33), (1.0, 0.33), (8.0, 0.7))
            for seed, jitter in enumerate((0.0, 0.01, 0.02))]  # fmt: skip
    rows.append(row(0.8, 0, None, sum="none", method="local", spent=None))
    found = lines(rows, CHANCE, {})
    assert [line["method"] for line in found] == ["private-mean", "local"]
    assert [point["epsilon"] for point in found[0]["points"]] == [0.5, 1.0, 4.0, 8.0]
    assert list(sentences(found, CHANCE)) == [
        "private-mean (secure sum): at chance at epsilon 0.5 and 1 (its 95% interval is not above 0.333: it cannot be "
        "told from guessing); above chance at epsilon 4 and 8."
    ]


@pytest.mark.parametrize(("accuracy", "words"), [(0.2, "at chance at every"), (0.9, "above chance at every")])
def test_all_alike_is_said_in_one_breath(accuracy: float, words: str) -> None:
    rows = [row(accuracy, seed, epsilon, sum="open") for epsilon in (1.0, 2.0) for seed in range(2)]
    (said,) = sentences(lines(rows, CHANCE, {}), CHANCE)
    assert said.startswith(f"private-mean (no secure sum): {words} epsilon tried, 1 and 2")


def test_several_shots_are_told_apart() -> None:
    rows = [row(0.9, seed, shots=shots) for shots in (90, 10) for seed in range(2)]
    said = list(sentences(lines(rows, CHANCE, {}), CHANCE))
    assert [words.partition(":")[0] for words in said] == [
        "private-mean (secure sum) with 10 shots", "private-mean (secure sum) with 90 shots",
    ]  # fmt: skip


def test_a_broken_promise_is_found() -> None:
    kept, broken = row(0.5, spent=1.0 - 1e-12), row(0.5, spent=1.01)
    assert overspent([kept, broken, row(0.5, epsilon=None, spent=None)]) == [broken]
