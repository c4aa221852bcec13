"""The wheel works by itself: `make test-wheel` builds and installs it without the checkout, then runs it."""

import json
from pathlib import Path

import pytest

from medtl_core.flower.processes.children import PYTHON
from medtl_core.flower.processes.loopback import Deployment
from tests.harness.installed import ROOT, Installed, run
from tests.privacy.made import write_tables

pytestmark = [pytest.mark.wheel, pytest.mark.timeout(1200)]

SMALL = ("sites=3", "shots=12", "image-size=32", "bootstrap=5", "workers=2")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    return Installed(tmp_path_factory.mktemp("wheel"))


def test_the_wheel_is_what_runs_and_no_checkout_can_be_seen(installed: Installed) -> None:
    script = (
        "import importlib.util, sys, medtl_core\n"
        "print(medtl_core.__file__, [importlib.util.find_spec(name) for name in ('server', 'simulations', 'tests')])\n"
        f"print([place for place in sys.path if {str(ROOT)!r} == place])"
    )
    first, second = run(installed.python, "-c", script, cwd=installed.work).splitlines()
    assert first.startswith(str(installed.python.parents[1])) and first.endswith("[None, None, None]")
    assert second == "[]"


def test_quickstart_leaves_a_report(installed: Installed) -> None:
    shown = installed.medtl("simulate", "quickstart", "--out", "quick")
    assert "auto" in shown and "report.html" in shown
    assert (installed.work / "quick" / "report.html").read_text(encoding="utf-8").startswith("<!doctype html>")


def test_backbones_are_ordered(installed: Installed) -> None:
    words = ("--data", "phantom", "--backbones", "random:squeezenet1_1@4+7", "--sites", "3", "--shots", "12")
    found = json.loads(installed.medtl("select", *words, "--set", "image-size=64", "--out", "select", "--json"))
    assert len(found["candidates"]) == 2


def test_a_privacy_sweep_has_a_report(installed: Installed) -> None:
    words = ("--epsilons", "2", "--mechanisms", "private-mean", "--seeds", "1", "--out", "sweep")
    shown = installed.medtl("sweep", "privacy", "quickstart", *(f"--set={word}" for word in SMALL), *words)
    assert "private-mean" in shown
    assert (installed.work / "sweep" / "report.html").is_file()


@pytest.fixture(scope="module")
def app(installed: Installed) -> Path:
    installed.medtl("app", "my-app")
    return installed.work / "my-app"


def test_the_written_app_is_one_to_simulate(installed: Installed, app: Path) -> None:
    installed.medtl("simulate", "--app", app, "--set", *SMALL, "methods=ridge", "--out", "from-app")
    assert (installed.work / "from-app" / "report.html").is_file()


def test_flwr_run_starts_the_written_app_on_a_deployment(
    installed: Installed, app: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PYTHONPATH", raising=False)
    monkeypatch.setenv(PYTHON, str(installed.python))
    out = installed.work / "deployed"
    write_tables(installed.work, "north", "south")
    values = {"data": "", "backbone": "table", "sites": 2, "shots": 12, "bootstrap": 5, "methods": "ridge"}
    values |= {"test-path": str(installed.work / "test.csv"), "out": str(out)}
    for name in ("north", "south"):
        installed.medtl("site", "init", name, "--name", name, "--data", f"{name}.csv")
    nodes = [{"hospital": str(installed.work / name)} for name in ("north", "south")]
    with Deployment(nodes, home=installed.home / "flower") as deployment:
        assert deployment.run(app, values, timeout=400) == "finished:completed"
    assert list((out / "heads").glob("ridge.json"))
