import time
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from medtl_core.config import Settings
from medtl_core.data.leak import check_leaks
from medtl_core.data.partition import apportion, partition
from medtl_core.data.source import open_source
from medtl_core.data.synthetic.built_in import phantom_patients
from medtl_core.data.synthetic.phantom import train_images
from medtl_core.errors import ConfigError
from medtl_core.values import Examples, Task

KINDS = ("natural", "dirichlet", "skewed", "size", "even")


def cases(site: list[str], label: list[int] | None = None, test: int = 0, **changes: list[str]) -> Examples:
    """Cases of the given sites, one a patient unless said otherwise; the last `test` ones are test cases."""
    number = np.arange(len(site))
    columns = {"label": number % 3 if label is None else np.array(label), "patient": number.astype(str)}
    columns |= {"site": np.array(site), "split": np.where(number < len(site) - test, "train", "test")}
    return Examples(columns | {name: np.array(values) for name, values in changes.items()}, Task("t", ("a", "b", "c")))


@cache
def pool(patients: int, seed: int = 0) -> Examples:
    """Patients with one to three cases; about a quarter are test patients."""
    rng = np.random.default_rng(seed)
    owner = np.repeat(np.arange(patients), rng.integers(1, 4, patients))
    at = rng.choice(3, patients, p=np.arange(1, 4) / 6)[owner]
    split = np.where(rng.random(patients) < 0.25, "test", np.where(rng.random(patients) < 0.2, "val", "train"))[owner]
    columns = {
        "label": rng.integers(0, 3, patients)[owner], "patient": np.char.add("p", owner.astype(str)),
        "site": np.array(["x", "y", "z"])[at], "split": split,
    }  # fmt: skip
    return Examples(columns, Task("t", ("a", "b", "c")))


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(1, 500), min_size=1, max_size=12), st.integers(1, 60))
def test_apportion_gives_all_seats_and_at_least_one_each(sizes: list[int], seats: int) -> None:
    given_ = list(apportion({f"s{index:02d}": size for index, size in enumerate(sizes)}, seats).values())
    assert sum(given_) == seats
    assert min(given_) >= (1 if seats >= len(sizes) else 0)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10_000), st.sampled_from(KINDS), st.integers(1, 6), st.integers(0, 8))
@example(48, "size", 6, 0)  # those before the last one take whole patients, and its share is a single case
def test_hospitals_share_no_patient_and_hold_what_was_asked(seed: int, kind: str, sites: int, shots: int) -> None:
    examples = pool(200, seed)
    asked = Settings(partition=kind, sites=sites, shots=shots, seed=seed, alpha=0.3)
    parts = partition(examples, asked)
    check_leaks(examples, parts.sides())
    check_leaks(examples, {site.name: site.test for site in parts.sites})
    assert len(parts.sites) == len({site.name for site in parts.sites}) == sites
    sizes = [len(site.train) for site in parts.sites]
    if shots and kind != "size":
        assert set(sizes) == {shots}
    if shots and kind == "size":
        assert sum(sizes) == sites * shots and min(sizes) >= 1
    trained = np.concatenate([site.train for site in parts.sites])
    assert len(np.unique(trained)) == len(trained) and trained.dtype == np.int64
    assert set(examples["split"][trained]) <= {"train", "val"}
    assert (examples["split"][parts.server_test] == "test").all()
    assert len(parts.server_test) == (examples["split"] == "test").sum()
    if not shots and (kind != "natural" or sites >= 3):
        assert len(trained) == (examples["split"] != "test").sum()
    again = partition(examples, asked)
    assert all((a.train == b.train).all() for a, b in zip(parts.sites, again.sites, strict=True))


def test_natural_sites_are_cut_in_proportion_and_named() -> None:
    examples = cases(["n"] * 40 + ["s"] * 20 + ["n"] * 8 + ["s"] * 4, test=12)
    parts = partition(examples, Settings(sites=3, shots=20))
    assert [site.name for site in parts.sites] == ["n-1", "n-2", "s"]
    assert all(set(examples["site"][site.train]) == {site.name[0]} for site in parts.sites)
    assert [len(site.test) for site in parts.sites] == [4, 4, 4]
    assert [site.name for site in partition(examples, Settings(sites=1, shots=5)).sites] == ["n"]


def test_more_shots_contain_fewer_shots_and_another_seed_draws_others() -> None:
    examples = pool(300)
    for kind in ("natural", "even"):
        few, more, other = (
            partition(examples, Settings(sites=5, shots=shots, partition=kind, seed=seed))
            for shots, seed in ((5, 0), (20, 0), (5, 1))
        )
        assert all((a.train == b.train[:5]).all() for a, b in zip(few.sites, more.sites, strict=True))
        assert any((a.train != b.train).any() for a, b in zip(few.sites, other.sites, strict=True))


def test_small_alpha_skews_classes_and_large_alpha_does_not() -> None:
    examples = pool(3000)

    def largest_share(alpha: float) -> float:
        parts = partition(examples, Settings(partition="dirichlet", alpha=alpha, sites=20, shots=30))
        return float(np.mean([np.bincount(examples["label"][site.train]).max() / 30 for site in parts.sites]))

    assert largest_share(0.05) > 0.85 and largest_share(1000.0) < 0.55


def test_skewed_hospitals_are_judged_on_their_own_class_mix() -> None:
    examples = pool(3000)
    asked = Settings(partition="skewed", alpha=0.3, sites=5, shots=40)
    skewed, plain = partition(examples, asked), partition(examples, asked.replace(partition="dirichlet"))
    label = examples["label"]
    totals = np.bincount(label[skewed.server_test], minlength=3)
    held = np.array([np.bincount(label[site.train], minlength=3) for site in skewed.sites])
    for site, other, wanted in zip(skewed.sites, plain.sites, held / held.sum(axis=0) * totals, strict=True):
        np.testing.assert_array_equal(site.train, other.train)
        # whole patients of at most three cases, so the deal is off by less than three cases on either side
        assert np.abs(np.bincount(label[site.test], minlength=3) - wanted).max() <= 4
    dealt = np.concatenate([site.test for site in skewed.sites])
    assert sorted(dealt.tolist()) == sorted(skewed.server_test.tolist())


def test_skewed_leaves_a_class_nobody_trains_on_undealt() -> None:
    examples = cases(["n"] * 30, [0, 1] * 10 + [0, 1, 2, 2, 2, 0, 1, 0, 1, 0], test=10)
    parts = partition(examples, Settings(partition="skewed", sites=2, shots=8))
    dealt = np.concatenate([site.test for site in parts.sites])
    assert sorted(examples["label"][dealt].tolist()) == [0] * 4 + [1] * 3


def test_dirichlet_goes_on_when_a_class_runs_out_and_sizes_are_unequal() -> None:
    examples = cases(["s"] * 40, [0] * 36 + [1, 1, 2, 2])
    parts = partition(examples, Settings(partition="dirichlet", alpha=0.01, sites=4, shots=10))
    assert sorted(np.concatenate([site.train for site in parts.sites]).tolist()) == list(range(40))
    sizes = [len(site.train) for site in partition(pool(600), Settings(partition="size", sites=6, shots=20)).sites]
    assert max(sizes) > 2 * min(sizes)


@pytest.mark.parametrize("kind", KINDS)
def test_too_small_a_pool_is_refused_with_what_there_is(kind: str) -> None:
    examples = cases(["s"] * 30)
    with pytest.raises(ConfigError, match=r"5 hospitals x 7 cases asked.*only 30 training cases"):
        partition(examples, Settings(partition=kind, sites=5, shots=7))
    with pytest.raises(ConfigError, match="31 hospitals x all cases asked"):
        partition(examples, Settings(partition=kind, sites=31, shots=0))
    crowded = cases(["s"] * 30, patient=["big"] * 28 + ["p", "q"])  # few patients with many cases
    with pytest.raises(ConfigError, match=r"only 30 training cases are available.*would hold"):
        partition(crowded, Settings(partition=kind, sites=3, shots=10))


@pytest.mark.parametrize(
    ("sites", "asked", "words"),
    [
        (["large"] * 50 + ["small"] * 3, {"sites": 2, "shots": 5}, r"site 'small': 1 hospital x 5 cases asked.*only 3"),
        (["a"] * 20 + ["a-1"] * 10, {"sites": 3, "shots": 2}, "one name"),
        (["north"] * 6 + ["south"] * 6, {"sites": 1, "shots": 1, "leave_out": "nort"}, "did you mean 'north'"),
        (["north"] * 6, {"sites": 1, "shots": 1, "leave_out": "north"}, "only 0 training"),
    ],
    ids=["small site", "names that collide", "unknown site left out", "only site left out"],
)
def test_natural_sites_that_cannot_serve_are_refused(sites: list[str], asked: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        partition(cases(sites), Settings(**asked))


def test_a_thousand_hospitals_take_less_than_a_second() -> None:
    for kind in KINDS:
        start = time.process_time()
        assert len(partition(pool(21_000), Settings(partition=kind, sites=1000, shots=20)).sites) == 1000
        assert time.process_time() - start < 1.0, kind


def test_hospitals_of_one_case_or_one_class_are_legal() -> None:
    examples = cases(["a"] * 6 + ["b"] + ["c"] * 3 + ["d"], [0, 1] * 3 + [0] + [1] * 4, 1)
    parts = partition(examples, Settings(sites=3, shots=0))
    assert [(site.name, len(site.train)) for site in parts.sites] == [("a", 6), ("b", 1), ("c", 3)]
    assert len(parts.server_test) == 1


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 10_000), st.sampled_from(KINDS), st.sampled_from(("x", "y", "z")), st.sampled_from(("", ":test")))
def test_a_site_left_out_is_held_by_nobody_and_judged_by_the_server(seed: int, kind: str, name: str, part: str) -> None:
    examples = pool(200, seed)
    asked = Settings(partition=kind, sites=4, shots=5, seed=seed, leave_out=name + part)
    parts = partition(examples, asked)
    check_leaks(examples, parts.sides())
    for site in parts.sites:
        assert name not in examples["site"][np.concatenate([site.train, site.test])]
    there = examples["site"] == name
    wanted = there & (examples["split"] == "test") if part else there
    np.testing.assert_array_equal(parts.server_test, np.flatnonzero(wanted))


def test_hospitals_and_the_phantoms_size_follow_the_sites_that_stay() -> None:
    parts = partition(pool(300), Settings(sites=4, shots=5, leave_out="z"))
    assert [part.name for part in parts.sites] == ["x", "y-1", "y-2", "y-3"]
    images = train_images(phantom_patients(Settings(sites=4, shots=100, leave_out="phantom-a")))
    assert min(count for name, count in images.items() if name != "phantom-a") >= 100


@pytest.mark.parametrize("typed", ["Cardiology/S\u00fcd", "Cardiology-Su\u0308d", " Cardiology/Su\u0308d\u200b"])
def test_a_site_is_left_out_by_the_name_that_its_data_have(tmp_path: Path, typed: str) -> None:
    sites = ("Cardiology/S\u00fcd", "north")
    rows = [f"{'xy'[k % 2]},{k},{sites[k // 2 % 2]},{k % 7}" for k in range(40)]
    (tmp_path / "manifest.csv").write_text("\n".join(["label,patient_id,site,a", *rows]), encoding="utf-8")
    chosen = Settings(data="", data_path=str(tmp_path), backbone="table", leave_out=typed, sites=1, shots=0)
    parts = partition(open_source(chosen).examples, chosen)
    assert [site.name for site in parts.sites] == ["north"] and len(parts.server_test) == 20
