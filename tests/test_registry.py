"""The table of methods: names, what each needs, and what is imported for it; tests/golden runs every one of them."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from client.app import app as client_app
from medtl_core import methods
from medtl_core.config import settings
from medtl_core.errors import ConfigError
from medtl_core.federation import registry
from medtl_core.flower.grid import run_local
from server.app import app as server_app

SMALL = {
    "data": "phantom", "sites": 5, "shots": 30, "image-size": 32, "features": "4", "bootstrap": 20, "local-epochs": 1,
}  # fmt: skip
#: What a private method needs to know.
PUBLIC = {"privacy": "auto", "public-cases": 4, "public-images": "phantom"}
#: Imports that a hospital's process must not pay for before a task needs them.
HEAVY = {"torch", "torchvision", "timm", "sklearn", "scipy", "opacus"}


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def run(method: str, test: str, out: Path, cache: Path) -> None:
    known = PUBLIC if method.startswith("private-") else {}
    places = {"cache": str(cache), "out": str(out), "state": str(out / "s")}
    values = {**SMALL, **known, "methods": method, "test": test, **places}
    nodes = [{"partition-id": part, "num-partitions": 5} for part in range(5)]
    run_local(server_app, client_app, node_configs=nodes, run_config=settings(values).public(), workers=1)


def test_names_are_one_methods_only_and_described() -> None:
    for kind in registry.all_methods():
        owners = [other for other in registry.all_methods() if other.parse(kind.example)]
        assert owners == [kind], kind.example
        assert kind.summary
        assert kind.test in ("any", "server", "sites")
        assert registry.find_method(kind.example).name == kind.example


def test_every_kind_of_model_says_its_kind() -> None:
    assert all(kind.kind == name for name, kind in registry.all_models().items())
    assert "network" in registry.all_models()


def test_a_core_method_or_task_reads_no_other_method() -> None:
    code = (
        "import sys, client.app; from medtl_core.federation import registry; registry.read_methods('fedavg-5, ridge');"
        "registry.private_task('fit'); names = [n for n in sys.modules if n.startswith('medtl_core.methods.')];"
        "print(sorted({*names} - {*registry._USUAL}));"
        "registry.find_method('fedprox-5'); registry.private_task('another')"
    )
    root = Path(__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_a_task_is_private_or_plain_not_both(monkeypatch: pytest.MonkeyPatch) -> None:
    module = type("module", (), {"__name__": "made", "PRIVATE_TASKS": {"fit": lambda site, arrays, config: None}})
    monkeypatch.setattr(registry, "_modules", lambda: (module,))
    registry._table.cache_clear()
    with pytest.raises(ConfigError, match="task 'fit' is private and plain at once"):
        registry.all_private_tasks()
    registry._table.cache_clear()


def test_unknown_names_suggest_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean 'discriminant'"):
        registry.read_methods("discriminent")
    with pytest.raises(ConfigError, match="methods is empty"):
        registry.read_methods(" , ")
    with pytest.raises(ConfigError, match="did you mean 'statistics'"):
        registry.answer("statistic", None, {}, {})  # type: ignore[arg-type]


def test_a_method_judged_at_hospitals_says_so_when_the_server_should_judge(tmp_path: Path, cache: Path) -> None:
    for kind in registry.all_methods():
        if kind.test == "sites":
            with pytest.raises(ConfigError, match="set test=sites"):
                run(kind.example, "server", tmp_path / kind.example, cache)
        if kind.test == "server":
            with pytest.raises(ConfigError, match=r"(set|needs) test=server"):
                run(kind.example, "sites", tmp_path / kind.example, cache)


@pytest.mark.parametrize("path", sorted(Path(methods.__path__[0]).rglob("*.py")), ids=lambda path: path.stem)
def test_method_files_import_nothing_heavy_at_their_top(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names = {alias.name for node in tree.body if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module or "" for node in tree.body if isinstance(node, ast.ImportFrom)}
    assert not {name.split(".")[0] for name in names} & HEAVY
