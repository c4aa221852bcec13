"""The house by its imports and its lines: `make house` prints it, `tests/test_layers.py` keeps it.

    python -m tests.house             one line a room, then what breaks a rule
    python -m tests.house --picture   draws docs/architecture.svg anew

An import counts wherever it stands: at the top, under `TYPE_CHECKING`, inside a function, through `importlib`.
"""

import ast
import io
import sys
import tokenize
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parents[1]
CORE = "medtl_core"
#: A file imports its own room and rooms to the left.
CORRIDOR = ("base", "data", "backbones", "features", "heads", "evaluation", "privacy", "federation", "flower")
#: A leaf imports the corridor and no other leaf; the command line, at the top, may import every room.
LEAVES = (
    "slides", "formats", "signals", "notes", "methods", "audit", "clinical", "report",
    "sweep", "recipes", "predict", "serve", "export", "deploy", "cli",
)  # fmt: skip
#: Leaves that stand on another leaf: the sweep's page is drawn with the report's tables and charts, and
#: new cases are read as a hospital's are.
BESIDE = {
    "sweep": ("report",),
    "predict": ("formats", "clinical"),
    "signals": ("formats",),
    "serve": ("predict", "formats"),
    "export": ("predict", "report", "signals"),
    "report": ("clinical",),
    "formats": ("slides",),
    "notes": ("formats",),
    "methods": ("clinical",),
}
#: What a top-level package may import of the others.
BELOW = {CORE: (), "server": (CORE,), "client": (CORE,), "simulations": (CORE, "server", "client")}
#: The files that reach a leaf, by name, and so may import a module whose name they compute.
DOORS = {
    "medtl_core.federation.registry": "methods",
    "medtl_core.data.readers": "formats",
    "medtl_core.data.images": "formats",
    "medtl_core.features.encoders": "formats",
    "medtl_core.data.views": "slides",
}
#: The command line reads a command's module when it is called; it may import every room, so nothing is hidden by that.
COMMANDS = "medtl_core.cli.app"
#: Who may import a library: modules or packages, by their names' beginnings.
ONLY = {
    "flwr": ("medtl_core.flower", "server.app", "client.app"),
    "ray": ("medtl_core.flower",),
    "opacus": ("medtl_core.methods.private",),
}

#: Physical lines of a room; the sum is at most the budget of the whole.
ROOMS = {
    "base": 1345, "data": 1650, "data/synthetic": 760, "backbones": 1030, "backbones/libraries": 375,
    "features": 975, "heads": 755, "evaluation": 1180, "privacy": 3010, "federation": 2110, "flower": 1485,
    "flower/node": 525, "formats": 5880, "methods": 5170, "methods/multilabel": 750, "methods/finetune": 1140,
    "methods/personal": 935, "methods/private": 1600, "audit": 1300, "report": 3350, "sweep": 600, "recipes": 500,
    "predict": 2670, "cli": 4735, "signals": 590, "server": 1020, "client": 1000, "flower/link": 320,
    "flower/processes": 410, "deploy": 3420, "serve": 400, "export": 860, "clinical": 1260, "slides": 335, "notes": 575,
}  # fmt: skip
#: Rooms whose code a person reads to follow one image from the reader to the judged head.
READ = ("base", "data", "backbones", "features", "heads", "evaluation", "federation", "flower")
#: Budgets of sums and of single files: physical lines but for the corridor's, which are lines of code.
WHOLE, CODE, TESTS, SIMULATIONS, METHOD, METHOD_MEDIAN = 22_000, 6_000, 16_250, 2_900, 250, 60
#: What each capability since the redesign may add to the whole, to the tests and to the simulations; the corridor's
#: budget stays.
ADDED = {
    "the hospital's door: its code, rules, budget, audit": (4_000, 3_200, 0),
    "the default: features, logistic head, devices, weights people have, yardsticks": (2_195, 1_740, 700),
    "every input: readers of formats, one check, records, scans": (8_010, 5_250, 300),
    "from a head to an answer: predictions, maps, likely classes, a report for clinicians": (2_560, 1_550, 200),
    "signals and machines": (700, 600, 160),
    "joining, running and seeing a federation": (4_730, 3_100, 360),
    "a head in other hands: a page, other programs, archive and record, a model card": (2_990, 1_970, 250),
    "figures for a clinic: thresholds, net benefit, groups, runs side by side": (3_400, 1_300, 0),
    "slides: tiles of tissue, stain, attention, sets of tissue and cells": (880, 680, 170),
    "notes, and kinds together": (2_500, 1_400, 280),
    "slips at the command line, and what nobody can tell": (60, 250, 0),
}


@dataclass(frozen=True)
class File:
    """One Python file of a checkout.

    Attributes:
        name: The module's dotted name; a package's is its folder's.
        text: What it holds.
    """

    name: str
    text: str

    @cached_property
    def tree(self) -> ast.Module:
        """The syntax tree."""
        return ast.parse(self.text)

    @cached_property
    def lines(self) -> int:
        """Physical lines."""
        return self.text.count("\n")

    @cached_property
    def code(self) -> int:
        """Lines without blank ones, comments and docstrings."""
        silent = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
        lines: set[int] = set()
        for token in tokenize.generate_tokens(io.StringIO(self.text).readline):
            if token.type not in silent:
                lines.update(range(token.start[0], token.end[0] + 1))
        for node in ast.walk(self.tree):
            match node:
                case ast.Expr(value=ast.Constant(value=str())):
                    lines.difference_update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
        return len(lines)

    @cached_property
    def functions(self) -> Mapping[str, int]:
        """Lines of every function, its docstring included, by a name with its line."""
        kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
        nodes = [node for node in ast.walk(self.tree) if isinstance(node, kinds)]
        return {f"{self.name}:{node.lineno} {node.name}": (node.end_lineno or 0) - node.lineno + 1 for node in nodes}

    @cached_property
    def room(self) -> str:
        """The room of the budget this file counts to."""
        package, *inner = self.name.split(".")
        if package != CORE:
            return package
        first, second = (*inner, "", "")[:2]
        return f"{first}/{second}" if f"{first}/{second}" in ROOMS else first if first in ROOMS else "base"

    @cached_property
    def layer(self) -> str:
        """The room whose direction this file keeps: a room's inner folders share it."""
        return self.room.partition("/")[0]

    def imports(self, modules: Mapping[str, "File"]) -> frozenset[str]:
        """Returns the modules imported anywhere in the file; a name that only runs can tell is `?`."""
        names: set[str] = set()
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                above = self.name.split(".")[: -node.level] if node.level else []
                package = ".".join([*above, *([node.module] if node.module else [])])
                inner = {f"{package}.{alias.name}" for alias in node.names}
                names |= (inner & modules.keys()) or {package}
            elif isinstance(node, ast.Call) and _called(node) in {"import_module", "__import__"}:
                word = node.args[0] if node.args else None
                names.add(word.value if isinstance(word, ast.Constant) and isinstance(word.value, str) else "?")
        return frozenset(names)


def _called(node: ast.Call) -> str:
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


@dataclass(frozen=True)
class House:
    """All files of the packages, by module."""

    modules: Mapping[str, File]

    @classmethod
    def read(cls, root: Path = ROOT) -> "House":
        """Returns the house of a checkout."""
        files = {}
        for package in BELOW:
            for path in sorted((root / package).rglob("*.py")):
                words = path.relative_to(root).with_suffix("").parts
                name = ".".join(words[:-1] if words[-1] == "__init__" else words)
                files[name] = File(name, path.read_text(encoding="utf-8"))
        return cls(files)

    @cached_property
    def imports(self) -> Mapping[str, frozenset[str]]:
        """What every module imports."""
        return {name: file.imports(self.modules) for name, file in self.modules.items()}

    def of(self, room: str) -> list[File]:
        """Returns the files of a room."""
        return [file for file in self.modules.values() if file.room == room]

    def arrows(self) -> Iterator[tuple[File, File]]:
        """Yields every import of our own: the file that imports, and what it imports."""
        for name, targets in self.imports.items():
            yield from ((self.modules[name], self.modules[target]) for target in sorted(targets & self.modules.keys()))

    def breaches(self) -> list[str]:
        """Returns every import that goes against the order."""
        against = [f"{a.name} imports {b.name}" for a, b in self.arrows() if not allowed(a, b)]
        for name, targets in self.imports.items():
            for target in sorted(targets):
                only = ONLY.get(target.partition(".")[0])
                if only and name.partition(".")[0] != "simulations" and not name.startswith(only):
                    against.append(f"{name} imports {target}: only {', '.join(only)} may")
                if target == "?" and name not in (*DOORS, COMMANDS):
                    doors = ", ".join((*DOORS, COMMANDS))
                    against.append(f"{name} imports a module whose name it computes: only {doors} may")
        return against

    def circles(self) -> list[list[str]]:
        """Returns groups of modules each of which reaches all the others by imports (Tarjan, SIAM J. Comput. 1972)."""
        order: dict[str, int] = {}
        low: dict[str, int] = {}
        path: list[str] = []
        groups: list[list[str]] = []

        def visit(name: str) -> None:
            order[name] = low[name] = len(order)
            path.append(name)
            for target in sorted(self.imports[name] & self.modules.keys()):
                if target not in order:
                    visit(target)
                if target in path:
                    low[name] = min(low[name], low[target])
            if low[name] == order[name]:
                group = path[path.index(name) :]
                del path[path.index(name) :]
                if len(group) > 1:
                    groups.append(sorted(group))

        for name in self.modules:
            if name not in order:
                visit(name)
        return groups

    def same_class_names(self) -> dict[str, list[str]]:
        """Returns class names that stand more than once in medtl_core, with their modules."""
        places = defaultdict(list)
        for file in self.modules.values():
            for node in ast.walk(file.tree):
                if isinstance(node, ast.ClassDef) and file.name.startswith(CORE):
                    places[node.name].append(file.name)
        return {name: modules for name, modules in sorted(places.items()) if len(modules) > 1}

    @cached_property
    def method_files(self) -> list[File]:
        """The files that list a method, shortest first."""
        files = [file for file in self.modules.values() if file.layer == "methods" and _lists_methods(file)]
        return sorted(files, key=lambda file: file.lines)

    def sums(self) -> dict[str, tuple[float, float]]:
        """Returns what is measured over several rooms: a figure and its budget."""
        methods = [file.lines for file in self.method_files] or [0]
        more, more_tests, more_simulations = (sum(added) for added in zip(*ADDED.values(), strict=True))
        return {
            "medtl_core + server + client, lines": (
                sum(f.lines for room in ROOMS for f in self.of(room)),
                WHOLE + more,
            ),
            "corridor, lines of code": (sum(file.code for room in READ for file in self.of(room)), CODE),
            "simulations, lines": (sum(file.lines for file in self.of("simulations")), SIMULATIONS + more_simulations),
            "tests, lines": (sum(_lines(path) for path in (ROOT / "tests").rglob("*.py")), TESTS + more_tests),
            "methods, median file": (median(methods), METHOD_MEDIAN),
            "methods, longest file": (methods[-1], METHOD),
            "imports against the order": (len(self.breaches()), 0),
            "circles": (len(self.circles()), 0),
            "class names used twice in medtl_core": (len(self.same_class_names()), 0),
        }


@cache
def this_house() -> House:
    """Returns the house of this checkout, read once."""
    return House.read()


def allowed(importer: File, target: File) -> bool:
    """Returns whether one file may import another."""
    if importer.layer == target.layer:
        return True
    package, other = importer.name.partition(".")[0], target.name.partition(".")[0]
    if package != other:
        shut = {*DOORS.values(), "cli"}
        return other in BELOW[package] and (package == "simulations" or target.layer not in shut)
    if importer.layer == "cli" or DOORS.get(importer.name) == target.layer:
        return True
    if target.layer in BESIDE.get(importer.layer, ()):
        return True
    ranks = {name: rank for rank, name in enumerate(CORRIDOR)}
    return target.layer in ranks and ranks[target.layer] < ranks.get(importer.layer, len(ranks))


def _lists_methods(file: File) -> bool:
    names = [node.target for node in file.tree.body if isinstance(node, ast.AnnAssign)]
    names += [target for node in file.tree.body if isinstance(node, ast.Assign) for target in node.targets]
    return any(isinstance(name, ast.Name) and name.id == "METHODS" for name in names)


def _lines(path: Path) -> int:
    return path.read_text(encoding="utf-8").count("\n")


def _mark(figure: float, budget: float) -> str:
    return "  OVER" if figure > budget else ""


def table(house: House) -> str:
    """Returns what `make house` prints."""
    rows = [f"{'room':18}{'lines':>7}{'budget':>8}{'code':>7}  files: median longest  functions: median longest"]
    for room, budget in ROOMS.items():
        files = house.of(room)
        spans = [span for file in files for span in file.functions.values()] or [0]
        sizes = [file.lines for file in files] or [0]
        rows.append(
            f"{room:18}{sum(sizes):>7}{budget:>8}{sum(file.code for file in files):>7}"
            f"{median(sizes):>15.0f} {max(sizes):>7}{median(spans):>19.0f} {max(spans):>7}{_mark(sum(sizes), budget)}"
        )
    rows += ["", *(f"{name:40}{a:>8.0f} of {b:.0f}{_mark(a, b)}" for name, (a, b) in house.sums().items())]
    short, long = house.method_files[0], house.method_files[-1]
    code = median(file.code for file in house.method_files)
    rows += ["", f"shortest method file {short.name} {short.lines}, longest {long.name} {long.lines} lines"]
    rows += [f"{len(house.method_files)} method files, median {code:.0f} lines of code"]
    spans = {name: span for file in house.modules.values() for name, span in file.functions.items()}
    rows += [f"longest function {max(spans, key=spans.__getitem__)}, {max(spans.values())} lines"]
    rows += [f"against the order: {fault}" for fault in house.breaches()]
    rows += [f"circle: {', '.join(circle)}" for circle in house.circles()]
    rows += [f"class {name}: {', '.join(modules)}" for name, modules in house.same_class_names().items()]
    return "\n".join(rows) + "\n"


def main(words: list[str]) -> None:
    """Prints the house, or draws its picture."""
    house = House.read()
    if "--picture" in words:
        from tests import picture

        picture.PATH.write_text(picture.drawn(house), encoding="utf-8")
        return
    sys.stdout.write(table(house))


if __name__ == "__main__":
    main(sys.argv[1:])
