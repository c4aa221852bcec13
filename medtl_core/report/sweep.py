"""A privacy sweep for people: a table for the terminal, and one self-contained page."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medtl_core.report import numerals, sweep_plots, template
from medtl_core.report.sections import Cell, Line, Table, line
from medtl_core.report.template import markup

if TYPE_CHECKING:
    from rich.table import Table as RichTable

#: Sums in words.
SUMS: Mapping[str, str] = {"secure": "secure", "open": "open", "none": "not private"}
#: Follows a figure that is at chance.
MARK = "*"

_Line = Mapping[str, Any]
_PLACES = ("data-path", "test-path", "weights")


def sweep_table(found: Mapping[str, Any], shots: int) -> "RichTable":
    """Returns balanced accuracy by method and epsilon as a table for the terminal, intervals in small print."""
    from rich import box
    from rich.table import Table as RichTable

    table = RichTable(box=box.SIMPLE_HEAD)
    table.pad_edge, table.show_edge, table.collapse_padding = False, False, True
    table.add_column("method", no_wrap=True)
    table.add_column("sum", no_wrap=True)
    for epsilon in found["epsilons"]:
        table.add_column(f"{epsilon:g}", justify="right", no_wrap=True)
    table.add_column("none", justify="right", no_wrap=True)
    for one in of_shots(found, shots):
        points = {point["epsilon"]: point for point in one["points"]}
        cells = [_terminal_cell(points.get(epsilon)) for epsilon in [*found["epsilons"], None]]
        table.add_row(one["method"], "-" if one["sum"] == "none" else one["sum"], *cells)
    return table


def headline(found: Mapping[str, Any], shots: int) -> str:
    """Returns what stands over the table of one number of shots."""
    cases = _range(found["public_cases"][str(shots)])
    return f"balanced accuracy by epsilon: {_named(shots)} at each hospital, public cases {cases}"


def told(found: Mapping[str, Any]) -> Iterator[str]:
    """Yields what must be said in words under the tables: where mechanisms are at chance, what was spent and broke."""
    yield (
        f"{found['hospitals']} hospitals, {found['test_cases']} test cases, {len(found['classes'])} classes, delta "
        f"{_range(found['delta'])}"
    )
    yield f"ranges: {_interval(found)}; {MARK} = at chance: the range is not above {found['chance']:.3f}"
    yield from found["sentences"]
    yield from remarks(found)


def remarks(found: Mapping[str, Any]) -> Iterator[str]:
    """Yields what was spent, and what limits the findings: few seeds, absent answers, runs that broke or are left."""
    yield spending(found)
    if len(found["seeds"]) < 3:
        yield (
            "one seed: intervals are a bootstrap over test patients, other training cases are not in them"
            if len(found["seeds"]) == 1
            else "two seeds: a t-interval of two values is very wide; more seeds say more"
        )
    if found["absent"]:
        yield f"{found['absent']} answer(s) of hospitals are missing; the events of each run name them"
    for name, why in found["failed"].items():
        yield f"FAILED: {name}: {why}"
    left = found["of"] - found["done"] - len(found["failed"])
    if left > 0:
        yield f"{found['done']} of {found['of']} runs are done; the same command goes on"


def spending(found: Mapping[str, Any]) -> str:
    """Returns one sentence: what the ledgers account for at each promised epsilon, at most."""
    most: dict[float, float] = {}
    for one in _private(found["lines"]):
        for point in one["points"]:
            if point["spent"] is not None:
                most[point["epsilon"]] = max(most.get(point["epsilon"], 0.0), point["spent"])
    words = ", ".join(f"{used:.4g} of {epsilon:g}" for epsilon, used in sorted(most.items()))
    return f"spent, the most by any hospital's ledger: {words} promised" if words else "nothing was spent"


def of_shots(found: Mapping[str, Any], shots: int) -> list[_Line]:
    """Returns the lines of one number of shots."""
    return [one for one in found["lines"] if one["shots"] == shots]


def render(found: Mapping[str, Any]) -> str:
    """Returns the report of a sweep: whole in itself, nothing is fetched.

    Args:
        found: as `medtl_core.sweep.privacy.carry_out` gives it.
    """
    shots = [count for count in found["shots"] if of_shots(found, count)]
    data, seeds = found["data"], len(found["seeds"])
    return template.render(
        "medtl_core.sweep",
        title=f"Accuracy and privacy: {found['name']}",
        subtitle=f"Data: {data.get('title') or data['folder']} · {', '.join(found['classes'])} · {seeds} seed(s)",
        synthetic=bool(data.get("synthetic")),
        lead=lead(found, shots[-1]),
        tiles=_tiles(found),
        parts=[_part(found, count) for count in shots],
        spending=f"{spending(found)[0].upper()}{spending(found)[1:]}.",
        sentences=found["sentences"],
        remarks=list(remarks(found)),
        cases=_range(_public_cases(found)),
        delta=_range(found["delta"]),
        chance=f"{found['chance']:.3f}",
        interval=_interval(found),
        fact_tables=_facts(found),
        medtl_version=found["versions"].get("medtl", ""),
        mark=MARK,
    )


def lead(found: Mapping[str, Any], shots: int) -> str:
    """Returns the first sentence of the page: the best mechanism at a usual epsilon, beside no privacy and guessing."""
    epsilon = 4.0 if 4.0 in found["epsilons"] else found["epsilons"][-1]
    lines = of_shots(found, shots)
    private = [
        (point["balanced_accuracy"], one["method"])
        for one in _private(lines)
        for point in one["points"]
        if point["epsilon"] == epsilon and point["balanced_accuracy"]["mean"] is not None
    ]
    words = []
    if private:
        best, name = max(private, key=lambda pair: pair[0]["mean"])
        words.append(
            f"With epsilon {epsilon:g} promised to every patient, the best of {len(private)} mechanisms on these test "
            f"cases, {name}, reached a balanced accuracy of {_with_spread(best)}"
        )
    free = [(estimate, name) for name, estimate in _references(lines) if estimate["mean"] is not None]
    if free:
        best, name = max(free, key=lambda pair: pair[0]["mean"])
        words.append(f"without privacy, {name} reached {_with_spread(best)}")
    words.append(f"guessing gives {found['chance']:.3f}")
    return "; ".join(words)[0].upper() + "; ".join(words)[1:] + "."


def _part(found: Mapping[str, Any], shots: int) -> dict[str, Any]:
    """One number of shots: its plots and its tables."""
    lines = of_shots(found, shots)
    drawn = [
        sweep_plots.Line(
            _name(one), [sweep_plots.Point(point["epsilon"], point["balanced_accuracy"]) for point in one["points"]]
        )
        for one in _private(lines)
    ]
    spent = [
        (_name(one), [(point["epsilon"], point["spent"]) for point in one["points"] if point["spent"] is not None])
        for one in _private(lines)
    ]
    named = _named(shots)
    title = f"Balanced accuracy against epsilon, {named}"
    return {
        "heading": f"{named} at each hospital",
        "id": f"shots-{shots}",
        "accuracy": markup(
            sweep_plots.against_epsilon(drawn, list(_references(lines)), found["chance"], title) if drawn else ""
        ),
        "spent": markup(sweep_plots.spent_plot(spent, f"Epsilon spent against promised, {named}") if drawn else ""),
        "tables": [
            _figures(found, lines, "balanced_accuracy", "Balanced accuracy"),
            _figures(found, lines, "auroc", "AUROC"),
            _figures(found, lines, "worst_site", "Worst site: balanced accuracy where it is lowest"),
            _costs(found, lines),
        ],
        "spent_table": _spent_table(found, lines),
    }


def _figures(found: Mapping[str, Any], lines: Sequence[_Line], figure: str, caption: str) -> Table:
    judged = figure == "balanced_accuracy"
    rows = []
    for one in lines:
        points = {point["epsilon"]: point for point in one["points"]}
        cells = [_cell(points.get(epsilon), figure, judged) for epsilon in [*found["epsilons"], None]]
        rows.append(Line(_name(one), cells, "reference" if one["sum"] == "none" else ""))
    return Table(caption, ["Method", *(f"{epsilon:g}" for epsilon in found["epsilons"]), "no privacy"], rows)


def _costs(found: Mapping[str, Any], lines: Sequence[_Line]) -> Table:
    rows = [line(_name(one), numerals.size(max(point["bytes_up"] for point in one["points"]))) for one in lines]
    return Table("Sent by a hospital, at most", ["Method", "Bytes"], rows)


def _spent_table(found: Mapping[str, Any], lines: Sequence[_Line]) -> Table:
    rows = []
    for one in _private(lines):
        points = {point["epsilon"]: point["spent"] for point in one["points"]}
        cells = [
            f"{used:.4g}" if (used := points.get(epsilon)) is not None else numerals.UNDEFINED
            for epsilon in found["epsilons"]
        ]
        rows.append(line(_name(one), *cells))
    return Table(
        "Epsilon spent, by epsilon promised", ["Mechanism", *(f"{epsilon:g}" for epsilon in found["epsilons"])], rows
    )


def _cell(point: Mapping[str, Any] | None, figure: str, judged: bool) -> Cell:
    if point is None:
        return Cell("")
    mark = MARK if judged and point["at_chance"] else ""
    return Cell(numerals.figure(point[figure]["mean"]) + mark, numerals.spread(point[figure]))


def _terminal_cell(point: Mapping[str, Any] | None) -> str:
    if point is None:
        return ""
    estimate = point["balanced_accuracy"]
    interval = numerals.spread(estimate, 2).replace("0.", ".")
    mark = MARK if point["at_chance"] else " "
    return f"{numerals.figure(estimate['mean'])}{mark}" + (f"\n[dim]{interval} [/]" if interval else "")


def _named(shots: int) -> str:
    return f"{shots} shots" if shots else "all cases"


def _public_cases(found: Mapping[str, Any]) -> list[int]:
    return sorted({cases for own in found["public_cases"].values() for cases in own})


def _interval(found: Mapping[str, Any]) -> str:
    counts = sorted({point["seeds"] for one in found["lines"] for point in one["points"]})
    if counts == [1]:
        return "95% patient bootstrap of one seed"
    alone = ", patient bootstrap where there is one" if counts[0] == 1 else ""
    return f"95% t-interval over {_range(counts)} seeds{alone}"


def _tiles(found: Mapping[str, Any]) -> list[dict[str, str]]:
    tiles = [
        ("Guessing", f"{found['chance']:.3f}", f"{len(found['classes'])} classes"),
        ("Delta", _range(found["delta"]), "of every promise"),
        ("Hospitals", str(found["hospitals"]), f"{_range(_public_cases(found))} public cases"),
        ("Test cases", str(found["test_cases"]), "at the server"),
        ("Seeds", str(len(found["seeds"])), "other training cases each"),
        ("Runs", str(found["done"]), f"of {found['of']}"),
    ]
    return [{"name": name, "value": value, "note": note} for name, value, note in tiles]


def _facts(found: Mapping[str, Any]) -> list[Table]:
    chosen = {
        key: Path(str(value)).name if key in _PLACES and value else value for key, value in found["settings"].items()
    }
    rows = [line(key, f"{value}" if value != "" else "(default)") for key, value in sorted(chosen.items())]
    versions = [line(name, f"{value}") for name, value in found["versions"].items()]
    return [Table("Settings", ["Setting", "Value"], rows), Table("Versions", ["Part", "Version"], versions)]


def _private(lines: Sequence[_Line]) -> list[_Line]:
    return [one for one in lines if one["sum"] != "none"]


def _references(lines: Sequence[_Line]) -> Iterator[tuple[str, Any]]:
    return ((one["method"], one["points"][0]["balanced_accuracy"]) for one in lines if one["sum"] == "none")


def _name(one: _Line) -> str:
    return one["method"] if one["sum"] in ("secure", "none") else f"{one['method']} (open)"


def _with_spread(estimate: Mapping[str, float | None]) -> str:
    spread = numerals.spread(estimate)
    return numerals.figure(estimate["mean"]) + (f" ({spread})" if spread else "")


def _range(values: Sequence[float]) -> str:
    if not values:
        return numerals.UNDEFINED
    return f"{values[0]:g}" if len(values) == 1 else f"{values[0]:g} to {values[-1]:g}"
