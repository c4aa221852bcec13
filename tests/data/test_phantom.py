import hashlib
from pathlib import Path

import numpy as np
import pytest

from medtl_core.data.leak import check_leaks
from medtl_core.data.synthetic.phantom import SHARES, phantom, train_images
from medtl_core.data.synthetic.scanner import SCANNERS
from medtl_core.errors import ConfigError


@pytest.fixture(scope="module")
def small():
    return phantom(size=32, patients=480)


def test_form(small) -> None:
    assert small["image"].dtype == np.uint8 and small["image"].shape[1:] == (32, 32, 1)
    assert small.task.classes == ("normal", "consolidation", "interstitial")
    assert np.unique(small["site"]).tolist() == [f"phantom-{letter}" for letter in "abcde"]
    test = small["split"] == "test"
    assert 170 <= test.sum() <= 190 and len(np.unique(small["patient"])) == 480
    assert set(np.unique(small["patient"], return_counts=True)[1].tolist()) == {1, 2}
    check_leaks(small, {"train": np.flatnonzero(~test), "test": np.flatnonzero(test)})
    assert sum(SHARES.values()) == pytest.approx(1)


def test_sites_differ_in_class_mix_and_look(small) -> None:
    for name, scanner in SCANNERS.items():
        counts = np.bincount(small["label"][small["site"] == name], minlength=3)
        assert counts.argmax() in np.flatnonzero(np.array(scanner.mix) == max(scanner.mix))
        assert sum(scanner.mix) == pytest.approx(1)
    brightness = [small["image"][small["site"] == name].mean() for name in SCANNERS]
    assert max(brightness) - min(brightness) > 20


def test_pixels_follow_the_seed_and_a_larger_phantom_begins_with_the_smaller_one(small) -> None:
    large, other = phantom(size=32, patients=500), phantom(seed=1, size=32, patients=40)
    held, again, others = (
        {id_: image.tobytes() for id_, image in zip(made["patient"], made["image"], strict=True)}
        for made in (small, large, other)
    )
    assert held.items() <= again.items() and not held.items() & others.items()
    keys = [set(examples["patient"][examples["split"] == "test"].tolist()) for examples in (small, large)]
    assert keys[0] == keys[1]
    train = small["site"][small["split"] == "train"]
    assert train_images(480) == {name: int((train == name).sum()) for name in SCANNERS}


def test_too_small_is_refused() -> None:
    for wrong in ({"size": 16}, {"patients": 9}):
        with pytest.raises(ConfigError, match="too small"):
            phantom(**wrong)


def test_a_drawing_is_kept_and_one_that_is_damaged_is_drawn_again(tmp_path: Path) -> None:
    first = phantom(size=32, patients=40, folder=tmp_path)
    assert hashlib.sha256(first["image"].tobytes()).hexdigest()[:16] == "a821e7645fb47494"
    (kept,) = (tmp_path / "phantom").glob("*.safetensors")
    day = kept.stat().st_mtime_ns
    for read in (True, False):
        again = phantom(size=32, patients=40, folder=tmp_path)
        assert all(np.array_equal(again[name], values) for name, values in first.columns.items())
        assert (kept.stat().st_mtime_ns == day) is read
        kept.write_bytes(kept.read_bytes()[:-1] + b"!")
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    assert np.array_equal(phantom(size=32, patients=40, folder=blocked)["image"], first["image"])
