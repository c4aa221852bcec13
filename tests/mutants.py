"""How many small mistakes do the tests notice? `make mutants` plants 200 of them, one at a time.

A fixed seed draws lines of the mutated folders; on each, one operator, comparison, constant, returned value or
statement is changed in the syntax tree, in memory. The tests that run that line, fastest first and up to a fixed time,
then run in a forked process that has the heavy libraries already. Caught is a failing test, an import that fails, or a
test that does not end. (Mutation sampling: DeMillo, Lipton and Sayward, Computer 1978.)

    python -m tests.mutants --map FOLDER/map.json [PATH ...]

The map says which test runs which line; one run of the default suite in one process makes it, and it is kept.
"""

import argparse
import ast
import importlib
import importlib.machinery
import json
import multiprocessing
import os
import random
import signal
import sys
import threading
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterator
from itertools import accumulate
from pathlib import Path
from typing import Any

ROOMS = [f"medtl_core/{room}" for room in ("heads", "federation", "privacy", "evaluation")]
HEAVY = ("numpy", "scipy.stats", "sklearn.linear_model", "torch", "torchvision", "opacus", "flwr.app")
SECONDS = 20.0  # of tests for one mutant, as the map measured them
#: Tests of what is not mutated, or in other processes: a mutant lives in this one only.
APART = ("report", "sweep", "simulations", "data", "backbones", "test_cli.py", "test_parity.py", "test_extending.py")
OPTIONS = [
    "-q",
    "--timeout=900",
    "-p",
    "no:xdist",
    "-p",
    "no:cacheprovider",
    "-m",
    "not slow and not deployed and not door",
]
OPTIONS += [f"--ignore=tests/{name}" for name in APART]
SWAPS: dict[type[ast.AST], type[ast.AST]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.And: ast.Or, ast.Or: ast.And,
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult, ast.Pow: ast.Mult, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd,
}  # fmt: skip
Change = tuple[int, str, Callable[[], None]]


def changes(node: ast.AST, inside: bool = False) -> Iterator[Change]:
    """Yields every change below a node that lies in a function: its line, what it is, and what makes it."""
    for name, value in ast.iter_fields(node):
        if name in {"annotation", "returns", "decorator_list", "args"} and not isinstance(node, ast.Call):
            continue
        for place, child in enumerate(value) if isinstance(value, list) else [(-1, value)]:
            if not isinstance(child, ast.AST) or isinstance(child, ast.JoinedStr):
                continue
            if inside:
                yield from _of(node, name, place, child)
            yield from changes(child, inside or isinstance(child, ast.FunctionDef))


def _of(parent: ast.AST, name: str, place: int, child: ast.AST) -> Iterator[Change]:
    def put(new: ast.AST) -> Callable[[], None]:
        ast.fix_missing_locations(ast.copy_location(new, child))
        return lambda: setattr(parent, name, new) if place < 0 else getattr(parent, name).__setitem__(place, new)

    line = getattr(child, "lineno", getattr(parent, "lineno", 0))
    match child:
        case _ if type(child) in SWAPS:
            yield line, f"{type(child).__name__} to {SWAPS[type(child)].__name__}", put(SWAPS[type(child)]())
        case ast.UnaryOp(op=ast.Not() | ast.USub()):
            yield line, "sign or not dropped", put(child.operand)
        case ast.Constant(value=bool()):
            yield line, f"{child.value} flipped", put(ast.Constant(not child.value))
        case ast.Constant(value=int() | float()):
            yield line, f"{child.value} + 1", put(ast.Constant(child.value + 1))
        case ast.Return(value=ast.AST() as value) if not isinstance(value, ast.Constant):
            yield line, "returns None", put(ast.Return(ast.Constant(None)))
        case ast.Raise() | ast.AugAssign() | ast.Expr(value=ast.Call()):
            yield line, f"{type(child).__name__} deleted", put(ast.Pass())
        case ast.Assign(targets=[ast.Attribute() | ast.Subscript()]):
            yield line, "assignment deleted", put(ast.Pass())
        case ast.If(test=test):
            negated = ast.fix_missing_locations(ast.copy_location(ast.UnaryOp(ast.Not(), test), test))
            yield line, "if negated", lambda: setattr(child, "test", negated)


class Tracer:
    """A pytest plugin: which lines of the mutated files every passed test runs, and how long it takes."""

    def __init__(self, files: set[str]) -> None:
        self.files, self.test, self.failed = files, "", set[str]()
        self.lines: dict[str, set[str]] = defaultdict(set)
        self.seconds: dict[str, float] = defaultdict(float)

    def trace(self, frame: Any, event: str, argument: object) -> Any:
        if frame.f_code.co_filename not in self.files:
            return None
        if event == "line":
            self.lines[f"{frame.f_code.co_filename}:{frame.f_lineno}"].add(self.test)
        return self.trace

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self.test = nodeid

    def pytest_runtest_logreport(self, report: Any) -> None:
        self.seconds[report.nodeid] += report.duration
        if not report.passed:
            self.failed.add(report.nodeid)

    def record(self, path: Path) -> None:
        """Runs the default suite and writes the map."""
        threading.settrace(self.trace)
        sys.settrace(self.trace)
        run([], self)
        sys.settrace(None)
        lines = {line: sorted(tests - self.failed - {""}) for line, tests in self.lines.items()}
        path.write_text(json.dumps({"lines": lines, "seconds": self.seconds}))


def run(tests: list[str], plugin: object = None) -> int:
    """Returns pytest's exit status for some tests, in this process, silently."""
    import pytest

    for stream in (1, 2):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
    return int(pytest.main([*OPTIONS, *([] if plugin else ["-x"]), *tests], plugins=[plugin] if plugin else []))


def forked(work: Callable[[], int | None], seconds: float) -> bool:
    """Returns whether a piece of work ended well, and in time, in a process of its own."""

    def alone() -> None:
        os.setsid()
        os._exit(work() or 0)

    child = multiprocessing.get_context("fork").Process(target=alone)
    child.start()
    child.join(seconds)
    if child.is_alive():
        os.killpg(int(child.pid or 0), signal.SIGKILL)
        child.join()
    return child.exitcode == 0


def survives(path: Path, number: int, tests: list[str]) -> bool:
    """Returns whether the tests pass with one change planted."""

    def planted() -> int:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        list(changes(tree))[number][2]()
        code = compile(tree, str(path), "exec")
        loader: Any = importlib.machinery.SourceFileLoader
        usual = loader.get_code
        loader.get_code = lambda self, name: code if Path(self.path) == path else usual(self, name)
        return run(tests)

    return not tests or forked(planted, 60.0 + 10 * SECONDS)


def main() -> None:
    options = argparse.ArgumentParser(description="see the module's docstring")
    options.add_argument("paths", nargs="*", default=ROOMS)
    options.add_argument("--map", type=Path, required=True)
    options.add_argument("--count", type=int, default=200)
    options.add_argument("--seed", type=int, default=0)
    asked = options.parse_args()
    found = (file for word in asked.paths for file in [Path(word), *Path(word).rglob("*.py")])
    files = sorted({file.resolve() for file in found if file.is_file()})
    _ = [importlib.import_module(name) for name in HEAVY]
    if not asked.map.exists():
        forked(lambda: Tracer({str(file) for file in files}).record(asked.map), 14400.0)
    known = json.loads(asked.map.read_text())
    drawn: dict[tuple[Path, int], list[tuple[int, str]]] = defaultdict(list)
    for file in files:
        for number, (line, what, _) in enumerate(changes(ast.parse(file.read_text(encoding="utf-8")))):
            drawn[file, line].append((number, what))
    dice, survivors = random.Random(asked.seed), 0
    places = dice.sample(sorted(drawn), min(asked.count, len(drawn)))
    for file, line in places:
        number, what = dice.choice(drawn[file, line])
        tests = sorted(known["lines"].get(f"{file}:{line}", []), key=known["seconds"].__getitem__)
        ends = list(accumulate(known["seconds"][test] for test in tests))
        chosen = tests[: max(bisect_right(ends, SECONDS), 1)]
        if survives(file, number, chosen):
            survivors += 1
            print(f"survived {file}:{line}  {what}  (tests run: {len(chosen)} of {len(tests)})", flush=True)  # noqa: T201
    print(f"{len(places) - survivors} of {len(places)} caught, seed {asked.seed}")  # noqa: T201


if __name__ == "__main__":
    main()
