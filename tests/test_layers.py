"""Imports point one way: simulations -> {server, client} -> medtl_core, and inside medtl_core only downwards."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

#: Later stages may import earlier ones, never the other way; one line is one level.
STAGES = (
    ("errors", "rng", "values", "threads", "events", "atomic", "versions", "logs"),
    ("config", "agreement", "runs", "personal_state"),
    ("counts", "weighted", "metrics", "calibrate", "ranking", "data", "views"),
    ("intervals", "histogram", "cache"),
    ("backbones",),
    ("specs",),
    ("features",),
    ("material",),
    ("heads",),
    ("aggregate", "privacy"),
    ("methods", "ensemble"),
    ("transfer",),
    ("registry",),
    ("report",),
    ("flower",),
    ("checkout", "planning", "progress", "inspection", "adapting", "selecting", "lesson", "pretraining", "bookkeeping"),
    ("batch", "sweep", "console"),
    ("audited", "attacks", "disclosure", "auditing"),
    ("cli_site", "cli_lists", "cli_sweep"),
    ("cli",),
)
LEVEL = {name: level for level, names in enumerate(STAGES) for name in names}
OUTSIDE = {"medtl_core": set(), "server": {"medtl_core"}, "client": {"medtl_core"}}
OUTSIDE["simulations"] = {"medtl_core", "server", "client"}


def imported(path: Path) -> set[str]:
    """Absolute names of modules a file imports; relative imports stay inside their package."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module)
    return names


def faults(path: Path) -> list[str]:
    package, *parts = path.relative_to(ROOT).with_suffix("").parts
    found = []
    for name in sorted(imported(path)):
        top, _, rest = name.partition(".")
        if top in OUTSIDE and top != package and top not in OUTSIDE[package]:
            found.append(f"{path.name} imports {name}: {package} may not import {top}")
        if package == "medtl_core" and top in {"flwr", "ray"} and parts[0] != "flower":
            found.append(f"{path.name} imports {name}: only medtl_core/flower may import Flower")
        if package == "medtl_core" and top == "medtl_core" and rest:
            stage, target = parts[0], rest.split(".")[0]
            if LEVEL[target] > LEVEL[stage]:
                found.append(f"{path.name} imports {name}: {stage} comes before {target}")
    return found


@pytest.mark.parametrize("package", OUTSIDE)
def test_imports_point_one_way(package: str) -> None:
    files = [
        path for path in (ROOT / package).rglob("*.py") if path.parent != ROOT / package or path.stem != "__init__"
    ]
    assert files
    assert [fault for path in files for fault in faults(path)] == []


def test_a_breach_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    planted = tmp_path / "medtl_core" / "heads" / "bad.py"
    planted.parent.mkdir(parents=True)
    planted.write_text("import flwr\nfrom medtl_core.cli.app import main\nimport server.app\n")
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    assert len(faults(planted)) == 3


def test_nothing_loads_untrusted_bytes() -> None:
    for package in OUTSIDE:
        for path in (ROOT / package).rglob("*.py"):
            text = path.read_text(encoding="utf-8")
            assert "pickle.load" not in text, path
            if "torch.load(" in text:
                assert "weights_only=True" in text, path
            assert "weights_only=False" not in text, path
