"""Scanner styles: rendering by hand, reproducible noise, who gets which scanner, and what is left alone."""

import numpy as np
import pytest

from medtl_core.config import Settings
from medtl_core.data.style import SIZE, UNSEEN, Style, of_hospital, of_server, rendered, style
from medtl_core.errors import ConfigError, DataError
from medtl_core.rng import stream
from medtl_core.values import Examples, Task

PLAIN = Style(1.0, 0.0, 1.0, 0.0, 0.0)
SHIFTED = Settings(shift="scanner", image_size=32)


def cases(count: int = 6, size: int = 20) -> Examples:
    image = stream(0, "images").integers(0, 256, (count, size, size, 1)).astype(np.uint8)
    columns = {
        "label": np.arange(count) % 2, "patient": np.array([f"p{i // 2}" for i in range(count)]),
        "site": np.full(count, "one"), "split": np.full(count, "test"), "image": image, "age": np.arange(count),
    }  # fmt: skip
    return Examples(columns, Task("t", ("a", "b")))


def grey(value: int, size: int = 4) -> np.ndarray:
    return np.full((size, size, 3), value, dtype=np.uint8)


@pytest.mark.parametrize(
    ("look", "value"),
    [
        (PLAIN, 51),
        (Style(1.0, 0.1, 1.0, 0.0, 0.0), 76),  # 0.2 + 0.1
        (Style(2.0, 0.0, 1.0, 0.0, 0.0), 0),  # 0.5 - 0.6 is clipped
        (Style(0.5, 0.0, 1.0, 0.0, 0.0), 89),  # 0.5 - 0.15
        (Style(1.0, 0.0, 2.0, 0.0, 0.0), 10),  # 0.04
        (Style(1.0, 0.0, 1.0, 0.0, 0.1), 51),  # a flat image has nothing to blur
    ],
)
def test_rendering_by_hand(look: Style, value: int) -> None:
    assert np.unique(rendered(grey(51), look, rng=stream(0))).tolist() == [value]


def test_noise_is_grey_and_of_its_size() -> None:
    film = rendered(grey(128, 200), Style(1.0, 0.0, 1.0, 0.05, 0.0), rng=stream(0)).astype(float)
    assert (film[..., 0] == film[..., 2]).all()
    assert film.std() / 255 == pytest.approx(0.05, rel=0.03) and film.mean() == pytest.approx(128, abs=0.5)


def test_blur_smooths_and_keeps_the_mean() -> None:
    checks = np.where(np.indices((32, 32)).sum(0)[..., None] % 2, 255, 0).astype(np.uint8).repeat(3, axis=2)
    film = rendered(checks, Style(1.0, 0.0, 1.0, 0.0, 0.05), rng=stream(0))
    assert film.std() < 10 and film.mean() == pytest.approx(127.5, abs=2)


def test_looks_stay_in_their_range_and_differ() -> None:
    looks = [style(f"hospital-{number}", seed) for number in range(20) for seed in range(5)]
    assert len(set(looks)) == 100
    assert all(0.5 <= one.contrast <= 1.4 and abs(one.brightness) <= 0.2 and 0 <= one.noise <= 0.08 for one in looks)
    assert {one.blur > 0 for one in looks} == {True, False}


def test_a_hospitals_images_are_shown_by_its_scanner_again_and_again() -> None:
    first, again = (of_hospital(cases(), "b", SHIFTED) for _ in range(2))
    assert first["image"].tobytes() == again["image"].tobytes()
    assert first["image"].shape == (6, 32, 32, 3) and first["image"].dtype == np.uint8
    assert set(first["site"]) == {"b"} and "path" not in first.columns
    np.testing.assert_array_equal(first["age"], np.arange(6))
    assert (of_hospital(cases(), "c", SHIFTED)["image"] != first["image"]).any()
    assert (of_hospital(cases(), "b", SHIFTED.replace(seed=1))["image"] != first["image"]).any()
    alone = of_hospital(cases().take(np.array([4])), "b", SHIFTED)
    np.testing.assert_array_equal(alone["image"][0], first["image"][4])


def test_test_patients_have_one_unseen_scanner_each() -> None:
    shown = of_server(cases(400, 4), SHIFTED)
    counts = {name: int((shown["site"] == name).sum()) for name in UNSEEN}
    assert sum(counts.values()) == 400 and min(counts.values()) > 50
    assert (shown["site"][::2] == shown["site"][1::2]).all()  # two images of a patient


def test_without_the_setting_nothing_is_touched_and_scanners_have_a_size_of_their_own() -> None:
    examples = cases()
    assert of_hospital(examples, "b", Settings()) is examples and of_server(examples, Settings()) is examples
    assert of_hospital(cases(1), "b", Settings(shift="scanner"))["image"].shape == (1, SIZE, SIZE, 3)


def test_tables_and_unknown_shifts_are_refused() -> None:
    examples = cases()
    table = {name: column for name, column in examples.columns.items() if name != "image"} | {"table": np.zeros((6, 2))}
    with pytest.raises(DataError, match="needs images"):
        of_hospital(Examples(table, examples.task), "b", SHIFTED)
    with pytest.raises(ConfigError, match="shift='scaner' is not known; did you mean 'scanner'"):
        Settings(shift="scaner")
