import dataclasses
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medtl_core.config import Settings, read_assignments, read_scenario, settings
from medtl_core.errors import ConfigError

ROOT = Path(__file__).resolve().parents[1]


def test_run_config_of_the_app_is_exactly_the_settings() -> None:
    app = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["flwr"]["app"]["config"]
    assert settings(app).public().keys() == app.keys()
    assert all(type(app[key]) is type(value) for key, value in Settings().public().items())


@pytest.mark.parametrize("path", sorted((ROOT / "simulations" / "scenarios").glob("*.toml")), ids=lambda p: p.stem)
def test_scenarios_are_valid_settings(path: Path) -> None:
    from medtl_core.federation.registry import read_methods

    chosen = settings(read_scenario(path))
    assert read_methods(chosen.methods)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"shotz": 3}, "did you mean 'shots'"),
        ({"shots": -1}, "must not be negative"),
        ({"image-size": "128+"}, "several such as 128\\+224"),
        ({"image-size": -1}, "must be pixels a side"),
        ({"image-size": "96+96"}, "names a size twice"),
        ({"sites": 0}, "must be greater than 0"),
        ({"folds": 1}, "must be at least 2"),
        ({"quorum": 1.5}, "must not exceed 1"),
        ({"partition": "dirichlett"}, "did you mean 'dirichlet'"),
        ({"shots": "many"}, "must be of type int"),
        ({"shots": True}, "must be of type int"),
        ({"shots": "1_0"}, "must be of type int"),
        ({"epsilon": "1_0.5"}, "must be of type float"),
        ({"delta": 0.05, "privacy": "auto", "public-cases": 20}, "promises little to 20 patients; stay below 1/20"),
        ({"delta": 1.0}, "promises little"),
        ({"out": "here"}, "absolute path"),
        ({"learning-rate": float("nan")}, "must be a finite number"),
        ({"leave-out": "x", "test": "sites"}, "needs test=server"),
        ({"leave-out": "x", "test-path": "/held"}, "needs test=server"),
    ],
)
def test_bad_values_are_named(values: dict, words: str) -> None:
    with pytest.raises(ConfigError, match=f"{next(iter(values))}.*{words}"):
        settings(values)


@pytest.mark.parametrize(
    ("values", "size"),
    [
        ({}, "128+224"),
        ({"shots": 24}, 0),
        ({"shots": 0}, 0),  # all cases: how many those are is not known here
        ({"image-size": 128}, 128),
        ({"methods": "auto,discriminant"}, 0),
        ({"methods": "discriminant"}, 0),
        ({"privacy": "auto"}, 0),
        ({"backbone": "table"}, 0),
        ({"features": "rich@2"}, 0),
        ({"features": "plain"}, 0),
    ],
)
def test_auto_alone_reads_two_sizes_where_there_is_something_to_gain(values: dict, size: int | str) -> None:
    chosen = settings({"methods": "auto", "shots": 25, **values})
    assert chosen.image_size == size
    assert settings(chosen.public()) == chosen  # a run's other side understands the same


def test_flat_keys_round_trip() -> None:
    chosen = Settings(shots=90, alpha=0.1, views="one")
    assert settings(chosen.public()) == chosen


@given(st.sampled_from([field.name for field in dataclasses.fields(Settings)]))
def test_every_field_is_documented_and_agreed_or_local(name: str) -> None:
    assert name.split("_")[0] in (Settings.__doc__ or "")
    local = {
        "modality",  # it shows in the fingerprint of the features
        "out",
        "state",
        "study",
        "cache",
        "device",
        "data_path",
        "test_path",
        "weights",
        "bootstrap",
        "subgroups",
        "operating_points",
        "outliers",
        "keep_scores",
        "deadline",
        "quorum",
        "methods",
    }
    assert (name.replace("_", "-") in Settings().agreed()) == (name not in local)


def test_assignments_are_kept_as_typed_and_need_an_equals_sign() -> None:
    words = ["local_epochs=3", "alpha = 1e-1", "partition=even", "secure-sum=True"]
    assert list(read_assignments(words).items()) == [
        ("local-epochs", "3"), ("alpha", "1e-1"), ("partition", "even"), ("secure-sum", "True"),
    ]  # fmt: skip
    chosen = settings(read_assignments(words))
    assert (chosen.local_epochs, chosen.alpha, chosen.partition, chosen.secure_sum) == (3, 0.1, "even", True)


@pytest.mark.parametrize(
    ("word", "name", "value"),
    [("leave-out=01", "leave_out", "01"), ("out=/007", "out", "/007"), ("cache=1e3", "cache", "1e3"),
     ("data=true", "data", "true"), ("image-size=96", "image_size", 96), ("image-size=96+128", "image_size", "96+128"),
     ("shots=007", "shots", 7), ("alpha=1", "alpha", 1.0)],
)  # fmt: skip
def test_a_setting_is_read_by_its_own_type(word: str, name: str, value: object) -> None:
    chosen = getattr(settings(read_assignments([word])), name)
    assert chosen == value and type(chosen) is type(value)


@pytest.mark.parametrize("key", ["server-rate", "server-momentum", "adam-rate", "learning-rate", "alpha", "epsilon"])
@pytest.mark.parametrize("text", ["nan", "inf", "-inf", "-1", "one", "true"])
def test_a_rate_that_is_no_rate_is_refused_by_name(key: str, text: str) -> None:
    with pytest.raises(ConfigError, match=key):
        settings(read_assignments([f"{key}={text}"]))


def test_assignments_need_an_equals_sign() -> None:
    with pytest.raises(ConfigError, match="key=value"):
        read_assignments(["shots"])


@pytest.mark.parametrize(
    ("name", "words"),
    [("quick", "cannot be read as TOML"), ("nested", "single value"), ("quik", "did you mean 'quick'")],
)
def test_scenario_errors(tmp_path: Path, name: str, words: str) -> None:
    (tmp_path / "quick.toml").write_text("shots = ")
    (tmp_path / "nested.toml").write_text("[a]\nb = 1\n")
    with pytest.raises(ConfigError, match=words):
        read_scenario(tmp_path / f"{name}.toml")


@pytest.mark.parametrize("words", [{"epsilon": 2.0}, {"secure_sum": True}, {"delta": 1e-6}, {"colluders": 2}])
def test_words_of_a_promise_are_refused_where_none_is_made(words: dict[str, float]) -> None:
    Settings(privacy="auto", **words).check_promise()  # type: ignore[arg-type]
    Settings(**words).without_promise().check_promise()  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="has no effect with privacy=none"):
        Settings(**words).check_promise()  # type: ignore[arg-type]
