"""The table of methods: names, what each needs, and what is imported for it; tests/golden runs every one of them."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from medtl_core import methods
from medtl_core.config import Settings
from medtl_core.errors import ConfigError
from medtl_core.federation import registry
from medtl_core.federation.study import Study
from server.verdict import judge_all
from simulations.memory import MemoryHospitals
from tests.memory import PROBLEM

#: Imports that a hospital's process must not pay for before a task needs them.
HEAVY = {"torch", "torchvision", "timm", "sklearn", "scipy", "opacus"}


def test_names_are_one_methods_only_and_described() -> None:
    assert all(kind.kind == name for name, kind in registry.all_models().items())
    for kind in registry.all_methods():
        owners = [other for other in registry.all_methods() if other.parse(kind.example)]
        assert owners == [kind], kind.example
        assert kind.summary
        assert kind.test in ("any", "server", "sites")
        assert registry.find_method(kind.example).name == kind.example
    names = registry.method_names()  # as lists and hints show them: each can be typed
    assert [registry.find_method(name).name for name in names] == [*names]
    assert {"fedprox-20", "scaffold-20", "ridge", "fedavg-20-adjusted", "discriminant-standardised"} <= {*names}


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


@pytest.mark.parametrize(
    "typed, meant", [("fedprox", "fedprox-20"), ("finetune", "finetune-last-5"), ("taps", "taps@all")]
)
def test_an_unknown_name_suggests_one_that_can_be_typed(typed: str, meant: str) -> None:
    with pytest.raises(ConfigError, match=f"did you mean '{meant}'"):
        registry.read_methods(typed)


def test_nothing_named_and_unknown_tasks_are_refused() -> None:
    with pytest.raises(ConfigError, match="methods is empty"):
        registry.read_methods(" , ")
    with pytest.raises(ConfigError, match="did you mean 'statistics'"):
        registry.answer("statistic", None, {}, {})  # type: ignore[arg-type]


def test_a_method_says_before_anything_is_asked_where_it_can_be_judged(hospitals: MemoryHospitals) -> None:
    for kind in registry.all_methods():
        study = Study(hospitals, PROBLEM, Settings(), registry.read_methods(kind.example))
        if kind.test == "sites":
            with pytest.raises(ConfigError, match="set test=sites"):
                judge_all(study, object())  # type: ignore[arg-type]
        if kind.test == "server":
            with pytest.raises(ConfigError, match=r"(set|needs) test=server"):
                judge_all(study, None)
    assert hospitals.asked == []


def test_method_files_import_nothing_heavy_at_their_top() -> None:
    for path in Path(methods.__path__[0]).rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        names = {alias.name for node in tree.body if isinstance(node, ast.Import) for alias in node.names}
        names |= {node.module or "" for node in tree.body if isinstance(node, ast.ImportFrom)}
        assert not {name.split(".")[0] for name in names} & HEAVY, path
