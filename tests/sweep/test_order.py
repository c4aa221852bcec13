"""What may be asked of a privacy sweep, and what is refused before anything runs or is written."""

from pathlib import Path
from typing import Any

import pytest

from medtl_core.cli import plan as planning
from medtl_core.cli.app_folder import find_app
from medtl_core.errors import ConfigError, DataError, MedtlError
from medtl_core.sweep.order import MECHANISMS, Order, read_epsilons, read_mechanisms, read_order, read_shots

APP = find_app(Path(__file__).resolve().parents[2])


def order(*words: str, epsilons: str = "1,4", mechanisms: str = MECHANISMS, shots: str = "", **run: Any) -> Order:
    return Order(planning.Order(assignments=words, seeds=run.pop("seeds", 2), **run), epsilons, mechanisms, shots)


def test_without_words_every_kind_of_mechanism_is_swept_over_the_quickstart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = read_order(order(), APP)
    assert (found.data, found.shots, found.epsilons, found.secure) == ("phantom", (30,), (1.0, 4.0), True)
    assert found.methods("free") == ("discriminant", "fedavg-20", "local")
    assert found.methods("open") == ("private-sgd",)
    assert set(found.methods("secure")) == set(MECHANISMS.split(",")) - {"private-sgd"}
    assert found.plan.out == tmp_path / "runs" / "sweep-privacy-quickstart"
    assert list(tmp_path.iterdir()) == []


def test_without_a_secure_sum_everything_is_open() -> None:
    found = read_order(order("secure-sum=false", "sites=2", mechanisms="private-mean,private-sgd"), APP)
    assert found.methods("secure") == ()
    assert found.methods("open") == ("private-mean", "private-sgd")


def test_a_place_that_is_given_is_kept(tmp_path: Path) -> None:
    assert read_order(order(out=tmp_path / "a"), APP).plan.out == tmp_path / "a"
    assert read_order(order(f"out={tmp_path / 'b'}"), APP).plan.out == tmp_path / "b"


def test_lists_are_ordered_and_without_repeats() -> None:
    assert read_epsilons("8, 0.5 ,8,none") == (0.5, 8.0)
    assert read_shots("90,10,90") == (10, 90)
    assert [one.name for one in read_mechanisms("private-mean,private-auto,private-mean")] == [
        "private-mean", "private-auto",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("0", "'0' must be a positive number"),
        ("1,-2", "'-2' must be a positive number"),
        ("inf", "'inf' must be a positive number"),
        ("nan", "'nan' must be a positive number"),
        ("1,two", "'two' is not a number"),
        ("none", "names no number"),
        ("", "names no number"),
    ],
)
def test_an_epsilon_that_promises_nothing_is_refused(text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        read_epsilons(text)


@pytest.mark.parametrize("text", ["0", "-5", "10,ten", "2.5"])
def test_shots_are_whole_numbers(text: str) -> None:
    with pytest.raises(ConfigError, match="must be a whole number above 0"):
        read_shots(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("private-protoypes", "unknown mechanism 'private-protoypes'; did you mean 'private-prototypes'"),
        ("private-auto,private-discrimnant", "did you mean 'private-discriminant'"),
        ("discriminant", "'discriminant' is not private and has no epsilon .* did you mean 'private-discriminant'"),
        ("fedavg-20", "'fedavg-20' is not private"),
        (" , ", "names none"),
    ],
)
def test_a_mechanism_must_be_known_and_private(text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        read_mechanisms(text)


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        (order("epsilon=3"), ConfigError, "epsilon is what a sweep varies; use --epsilons"),
        (order("methods=ridge"), ConfigError, "methods is what a sweep varies; use --mechanisms"),
        (order("privacy=mean"), ConfigError, "privacy is what a sweep varies; use --mechanisms"),
        (order("shots=5", shots="10"), ConfigError, "shots are given by --shots 10 and by --set shots=5"),
        (order("sites=2"), ConfigError, "secure sum of 2 hospitals .* secure-sum=false"),
        (order("colluders=3"), ConfigError, "cannot withstand 3 colluders"),
        (order("sitess=2"), ConfigError, "unknown setting 'sitess'; did you mean 'sites'"),
        (order(seeds=0), ConfigError, "seeds=0 must be greater than 0"),
        (order(scenario="quikstart"), ConfigError, "did you mean 'quickstart'"),
        (order(data="nowhere"), DataError, "there is no folder or file 'nowhere'"),
    ],
)
def test_what_contradicts_a_sweep_is_refused(given: Order, error: type[MedtlError], words: str) -> None:
    with pytest.raises(error, match=words):
        read_order(given, APP)
