"""`medtl features`, and what a run on a full cache need not read."""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medtl_core.cli import ahead
from medtl_core.cli import app as cli
from medtl_core.features import extract as module
from simulations.speed import Line
from simulations.speed_device import device

ROOT = Path(__file__).resolve().parents[2]
SMALL = ("backbone=random:lite0", "features=4", "image-size=32")
RUN = ("sites=2", "shots=4", "methods=nearest-mean,local", "partition=even", "bootstrap=5")

_CHILD = """
import json, sys
from medtl_core.cli.app import main
try:
    main()
except SystemExit as stopped:
    assert not stopped.code, stopped.code
names = ("torch", "torch._dynamo", "torchvision", "opacus", "timm", "sklearn", "pandas", "scipy", "httpx._client")
sys.stdout.write("\\n" + json.dumps([name for name in names if name in sys.modules]))
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Forty cases of two classes in class folders."""
    rng = np.random.default_rng(0)
    for number in range(40):
        path = tmp_path / "data" / "train" / "ab"[number % 2] / f"{number:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(path)
    return tmp_path / "data"


def called(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    monkeypatch.setattr(sys, "argv", ["medtl", *map(str, words)])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    return int(stopped.value.code or 0)


def read_by(*words: object) -> list[str]:
    """Runs a command in a process of its own and returns which of the heavy libraries it read."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", _CHILD, *map(str, words)]
    child = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert child.returncode == 0, child.stderr
    read: list[str] = json.loads(child.stdout.splitlines()[-1])
    return read


def test_a_cache_is_filled_and_bad_images_are_named(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "train" / "a" / "06.png").write_bytes(b"broken")
    words = ("features", folder, *SMALL, f"cache={tmp_path / 'cache'}")
    assert called(monkeypatch, *words) == 1
    shown = capsys.readouterr()
    assert "fault: case 4, " in shown.out and "06.png" in shown.out and "39 of 40 cases" in shown.out
    assert "40 of 40 cases" in shown.err
    (folder / "train" / "a" / "06.png").unlink()
    monkeypatch.setattr(module, "_computed", None)  # all others are there
    assert called(monkeypatch, *words, "--quiet") == 0
    shown = capsys.readouterr()
    assert "39 of 39 cases" in shown.out and not shown.err
    assert called(monkeypatch, "features", folder, "cache=off") == 1
    assert "set cache to a folder" in capsys.readouterr().err


def test_a_run_on_a_full_cache_never_reads_torch(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    places = (*SMALL, f"cache={tmp_path / 'cache'}")
    assert called(monkeypatch, "features", folder, *places, "--quiet") == 0
    run = ("simulate", "--data", folder, *places, *RUN, "--out", tmp_path / "run", "--quiet")
    assert read_by(*run) == []


@pytest.mark.slow
def test_a_first_run_reads_of_torch_only_what_computes(tmp_path: Path) -> None:
    words = (*SMALL, *RUN, f"cache={tmp_path / 'cache'}", "--out", tmp_path / "run", "--quiet")
    assert read_by("simulate", *words) == ["torch"]
    assert len(list((tmp_path / "cache" / "phantom").glob("*.json"))) == 1
    assert read_by("simulate", *words[:-2], tmp_path / "again", "--quiet") == []


@pytest.mark.slow
@pytest.mark.parametrize("helped", [True, False])
def test_a_first_run_on_built_in_pictures_has_their_features_computed_by_another_process(
    tmp_path: Path, helped: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = (*SMALL[:2], *RUN, f"cache={tmp_path / 'cache'}", "--out", tmp_path / "run", "--quiet")
    if not helped:  # the other process fails; this one reads what it needs
        monkeypatch.setenv("PYTHONSAFEPATH", "1")
        monkeypatch.setattr(ahead.sys, "executable", "/bin/false")
        assert called(monkeypatch, "simulate", *words) == 0
        assert "torch" in sys.modules
    else:
        assert read_by("simulate", *words) == []
    assert (tmp_path / "cache" / "features.sqlite").is_file()
    alone = (*words[:-4], "cache=off", "--out", tmp_path / "alone", "--quiet")
    assert called(monkeypatch, "simulate", *alone) == 0
    heads = [(tmp_path / run / "seed-0" / "heads" / "nearest-mean.safetensors") for run in ("run", "alone")]
    assert heads[0].read_bytes() == heads[1].read_bytes()


def test_a_library_is_read_when_something_of_it_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a_slow_library.py").write_text("import sys\nREAD = sys.modules[__name__].READ_TOO = 'read'\n")
    monkeypatch.syspath_prepend(tmp_path)
    ahead.read_later("a_slow_library")
    library = importlib.import_module("a_slow_library")
    assert "READ" not in vars(library)
    assert library.READ == library.READ_TOO == "read"
    assert not hasattr(library, "unread")
    ahead.read_later("a_slow_library")
    ahead.read_later("a_library_that_is_not_here")
    ahead.read_later("no_package.module")
    assert sys.modules.pop("a_slow_library") is library


def test_the_benchmark_of_a_device_runs_on_the_cpu_and_says_so() -> None:
    ratio, loop, apart = device(Line, "cpu", size=32, few=2)
    assert ratio.value > 0 and loop.value > 0 and apart.value == 0
    assert "no GPU is here: 2 images in place of 10,000" in ratio.detail
