"""The feature cache: it may lose everything and change nothing, and says what it lost once."""

import logging
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from medtl_core.features import cache as module
from medtl_core.features.cache import FeatureCache
from medtl_core.store import cache_folder

ROOT = Path(__file__).resolve().parents[2]
FILE = "features.sqlite"


@pytest.fixture(autouse=True)
def nothing_said_before() -> Iterator[None]:
    module._SAID.clear()
    yield
    module._SAID.clear()


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.WARNING, logger="medtl")
    return caplog


def rows(*keys: str, width: int = 3) -> dict[str, NDArray[np.float32]]:
    return {key: np.arange(width, dtype=np.float32) + len(key) for key in keys}


def equal(found: dict[str, NDArray[np.float32]], expected: dict[str, NDArray[np.float32]]) -> bool:
    return found.keys() == expected.keys() and all(found[key].tobytes() == expected[key].tobytes() for key in expected)


def change(folder: Path, statement: str, *values: object) -> None:
    base = sqlite3.connect(folder / FILE)
    with base:
        base.execute(statement, values)
    base.close()


# --- what it keeps


def test_patients_features_are_their_owners_alone_and_an_older_file_is_mended(tmp_path: Path) -> None:
    folder = tmp_path / "new"
    FeatureCache(folder).put_many(rows("a"))
    assert (folder.stat().st_mode & 0o777, (folder / FILE).stat().st_mode & 0o777) == (0o700, 0o600)
    (folder / FILE).chmod(0o644)
    assert FeatureCache(folder).get_many(["a"])
    assert (folder / FILE).stat().st_mode & 0o777 == 0o600


def test_what_was_put_comes_back_byte_for_byte(tmp_path: Path) -> None:
    special = np.array([0.0, -0.0, 1e-45, np.pi, -3.4e38], dtype=np.float32)
    FeatureCache(tmp_path).put_many({"a": special, **rows("bb")})
    found = FeatureCache(tmp_path).get_many(["bb", "a", "none", "a"])
    assert equal(found, {"a": special, **rows("bb")})
    assert found["a"].dtype == np.float32
    found["a"][0] = 1.0  # a row belongs to who asked
    assert equal(FeatureCache(tmp_path).get_many(["a"]), {"a": special})


def test_any_layout_is_the_same_row_and_a_later_row_replaces_an_earlier_one(tmp_path: Path) -> None:
    wide, cache = np.arange(6, dtype=np.float32), FeatureCache(tmp_path)
    cache.put_many({**rows("a"), "strided": wide[::2], "big-endian": wide.astype(">f4")})
    cache.put_many(rows("a", width=5))
    assert equal(cache.get_many(["strided", "big-endian"]), {"strided": wide[::2], "big-endian": wide})
    assert cache.get_many(["a"])["a"].shape == (5,)


def test_nothing_asked_makes_no_file_and_no_folder_is_no_cache(tmp_path: Path) -> None:
    FeatureCache(tmp_path).put_many({})
    assert FeatureCache(tmp_path).get_many([]) == {}
    assert list(tmp_path.iterdir()) == []
    FeatureCache(None).put_many(rows("a"))
    assert FeatureCache(None).get_many(["a"]) == {}


def test_default_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("MEDTL_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert cache_folder("") == tmp_path / ".cache" / "medtl"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder("") == tmp_path / "xdg" / "medtl"
    monkeypatch.setenv("MEDTL_CACHE", "~/own")
    assert cache_folder("") == tmp_path / "own"
    assert (cache_folder("~/mine"), cache_folder("off")) == (tmp_path / "mine", None)


# --- what is damaged


@pytest.mark.parametrize(
    ("statement", "value"),
    [
        ("UPDATE features SET row = ? WHERE key = 'a'", np.full(3, 7, dtype="<f4").tobytes()),
        ("UPDATE features SET row = ? WHERE key = 'a'", b"12345"),
        ("UPDATE features SET row = ? WHERE key = 'a'", "text"),
        ("UPDATE features SET sum = ? WHERE key = 'a'", b""),
        ("UPDATE features SET row = (SELECT row FROM features WHERE key = ?) WHERE key = 'a'", "bbbb"),
    ],
)
def test_a_damaged_row_is_not_given_out_and_said_once(
    tmp_path: Path, said: pytest.LogCaptureFixture, statement: str, value: object
) -> None:
    cache = FeatureCache(tmp_path)
    cache.put_many(rows("a", "bbbb"))
    change(tmp_path, statement, value)
    for _ in range(2):
        assert equal(cache.get_many(["a", "bbbb"]), rows("bbbb"))
    assert [record.levelname for record in said.records] == ["WARNING"]
    assert said.records[0].name == "medtl"
    assert "damaged rows; they are computed again" in said.text
    cache.put_many(rows("a"))
    assert equal(cache.get_many(["a", "bbbb"]), rows("a", "bbbb"))


@pytest.mark.parametrize(
    "content", [b"this is no database " * 100, b"\0" * 5000, b"SQLite format 3\0" + b"\xff" * 8000]
)
def test_a_damaged_file_is_set_aside_with_what_lies_beside_it_and_begun_anew(
    tmp_path: Path, said: pytest.LogCaptureFixture, content: bytes
) -> None:
    beside = [tmp_path / (FILE + suffix) for suffix in ("-journal", "-wal", "-shm")]
    for path in (tmp_path / FILE, *beside):
        path.write_bytes(content)
    cache = FeatureCache(tmp_path)
    assert cache.get_many(["a"]) == {}
    cache.put_many(rows("a"))
    assert equal(cache.get_many(["a"]), rows("a"))
    assert (tmp_path / f"{FILE}.damaged").read_bytes() == content
    assert not any(path.exists() for path in beside)
    assert len(said.records) == 1
    assert "set aside and begun anew" in said.text


def test_pages_damaged_inside_are_noticed(tmp_path: Path, said: pytest.LogCaptureFixture) -> None:
    many = rows(*(f"{number:04}" for number in range(1201)), width=64)  # more keys than one query takes
    cache = FeatureCache(tmp_path)
    cache.put_many(many)
    assert equal(cache.get_many(many), many)
    content = bytearray((tmp_path / FILE).read_bytes())
    content[4096:] = bytes(len(content) - 4096)
    (tmp_path / FILE).write_bytes(content)
    found = cache.get_many(many)
    assert len(found) < len(many)
    assert equal(found, {key: many[key] for key in found})
    cache.put_many(many)
    assert equal(cache.get_many(many), many)
    assert len(said.records) == 1


def test_a_folder_or_a_file_that_is_of_no_use_is_done_without(tmp_path: Path, said: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").touch()
    change(tmp_path, "CREATE TABLE features (other TEXT)")
    for cache in (FeatureCache(tmp_path / "file" / "below"), FeatureCache(tmp_path)):
        for _ in range(2):
            cache.put_many(rows("a"))
            assert cache.get_many(["a"]) == {}
    assert len([record for record in said.records if "below" in record.message]) == 1
    assert said.text.count("is not used") == len(said.records) <= 3  # reading and writing fail in words of their own


def test_a_file_that_can_only_be_read_is_still_read(
    tmp_path: Path, said: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    FeatureCache(tmp_path).put_many(rows("a"))
    opened = sqlite3.connect  # root may write anywhere, so the file is opened read-only

    def read_only(path: Path, timeout: float) -> sqlite3.Connection:
        return opened(f"{path.as_uri()}?mode=ro", timeout=timeout, uri=True)

    monkeypatch.setattr(sqlite3, "connect", read_only)
    cache = FeatureCache(tmp_path)
    cache.put_many(rows("bb"))
    assert equal(cache.get_many(["a", "bb"]), rows("a"))
    assert len(said.records) == 1


# --- many at once

_WRITER = """
import sys
from pathlib import Path
import numpy as np
from medtl_core.features.cache import FeatureCache
name, folder = sys.argv[1], Path(sys.argv[2])
sys.stdin.readline()
cache = FeatureCache(folder)
for number in range(60):
    cache.put_many({f"{name}{number}": np.full(8, number, "f4"), f"both{number}": np.full(8, -number, "f4")})
    assert f"{name}{number}" in cache.get_many([f"{name}{number}", f"both{number}"])
"""


def test_processes_writing_at_once_lose_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "folder"
    command = [sys.executable, "-W", "error", "-c", _WRITER]
    writers = [
        subprocess.Popen([*command, name, str(folder)], stdin=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT)
        for name in ("left", "right", "third")
    ]
    for writer in writers:  # they wait for one line, so that they begin together
        assert writer.stdin is not None
        writer.stdin.write(b"\n")
        writer.stdin.flush()
    texts = [writer.communicate(timeout=60)[1] for writer in writers]
    assert texts == [b"", b"", b""]
    assert [writer.returncode for writer in writers] == [0, 0, 0]
    expected = {f"{name}{n}": np.full(8, n, "f4") for name in ("left", "right", "third") for n in range(60)}
    expected |= {f"both{n}": np.full(8, -n, "f4") for n in range(60)}
    assert equal(FeatureCache(folder).get_many(expected), expected)


def test_threads_that_find_a_damaged_file_set_it_aside_once_and_lose_no_row(
    tmp_path: Path, said: pytest.LogCaptureFixture
) -> None:
    (tmp_path / FILE).write_bytes(b"no database" * 500)
    cache, gate = FeatureCache(tmp_path), threading.Barrier(4)

    def work(name: str) -> None:
        gate.wait(timeout=20)
        cache.put_many(rows(name))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, "abcd"))
    assert equal(cache.get_many("abcd"), rows(*"abcd"))
    assert (tmp_path / f"{FILE}.damaged").read_bytes() == b"no database" * 500
    assert len(said.records) == 1
