"""The table, the plots and the page of a privacy sweep, from made-up findings."""

import re
from typing import Any
from xml.etree import ElementTree

import pytest
from rich.console import Console

from medtl_core.report import sweep, sweep_plots
from medtl_core.report.sweep_plots import Line, Point, against_epsilon, apart, spent_plot
from tests.report.test_page import read

SVG = "{http://www.w3.org/2000/svg}"
EPSILONS = (0.5, 1.0, 4.0)


def estimate(mean: float | None, half: float | None = 0.05) -> dict[str, float | None]:
    if mean is None or half is None:
        return {"mean": mean, "low": None, "high": None}
    return {"mean": mean, "low": mean - half, "high": mean + half}


def point(epsilon: float | None, mean: float, chance: bool | None = False, seeds: int = 3) -> dict[str, Any]:
    return {
        "epsilon": epsilon, "spent": epsilon and epsilon * 0.99, "delta": epsilon and 1e-5,
        "balanced_accuracy": estimate(mean), "auroc": estimate(0.7), "worst_site": estimate(None), "bytes_up": 12_345,
        "seeds": seeds, "at_chance": chance,
    }  # fmt: skip


def findings(**changes: Any) -> dict[str, Any]:
    """Two mechanisms and a reference at 30 shots."""
    lines = [
        {"shots": 30, "sum": "secure", "method": "private-mean",
         "points": [point(0.5, 0.34, True), point(1.0, 0.5), point(4.0, 0.7)]},
        {"shots": 30, "sum": "open", "method": "private-sgd",
         "points": [point(0.5, 0.3, True), point(1.0, 0.31, True), point(4.0, 0.5)]},
        {"shots": 30, "sum": "none", "method": "discriminant", "points": [point(None, 0.8)]},
    ]  # fmt: skip
    values: dict[str, Any] = {
        "schema": 1, "name": "<quick> & start",
        "data": {"title": "Phantom", "folder": "phantom", "synthetic": True}, "classes": ["a", "b", "c"],
        "chance": 1 / 3, "hospitals": 5, "test_cases": 90, "shots": [30], "epsilons": list(EPSILONS),
        "seeds": [0, 1, 2], "delta": [1e-5], "public_cases": {"30": [20, 24]},
        "settings": {"data": "phantom", "data-path": "/secret/place/phantom"}, "versions": {"medtl": "0.1.0"},
        "lines": lines, "sentences": ["private-mean (secure sum): at chance at epsilon 0.5.", "private-sgd: ..."],
        "done": 21, "of": 21, "failed": {}, "absent": 0,
    }  # fmt: skip
    return values | changes


def printed(found: dict[str, Any]) -> str:
    console = Console(width=100)
    with console.capture() as text:
        console.print(sweep.sweep_table(found, 30))
    return text.get()


def test_the_terminal_marks_what_is_at_chance() -> None:
    shown = [line.split() for line in printed(findings()).splitlines()]
    assert ["method", "sum", "0.5", "1", "4", "none"] in shown
    assert ["private-mean", "secure", "0.340*", "0.500", "0.700"] in shown
    assert ["private-sgd", "open", "0.300*", "0.310*", "0.500"] in shown
    assert ["discriminant", "-", "0.800"] in shown
    assert sweep.headline(findings(), 30) == (
        "balanced accuracy by epsilon: 30 shots at each hospital, public cases 20 to 24"
    )


def test_what_limits_the_findings_is_said() -> None:
    words = list(sweep.told(findings()))
    assert words[0] == "5 hospitals, 90 test cases, 3 classes, delta 1e-05"
    assert words[1] == "ranges: 95% t-interval over 3 seeds; * = at chance: the range is not above 0.333"
    assert words[2:] == [*findings()["sentences"], "spent, the most by any hospital's ledger: 0.495 of 0.5, 0.99 of 1, "
                         "3.96 of 4 promised"]  # fmt: skip
    partly = findings(seeds=[0, 1], done=10, absent=3, failed={"secure/x": "RunError: no quorum"})
    said = list(sweep.remarks(partly))
    assert said[1:] == [
        "two seeds: a t-interval of two values is very wide; more seeds say more",
        "3 answer(s) of hospitals are missing; the events of each run name them",
        "FAILED: secure/x: RunError: no quorum",
        "10 of 21 runs are done; the same command goes on",
    ]
    assert "one seed" in list(sweep.remarks(findings(seeds=[0])))[1]


def test_points_of_one_and_of_several_seeds_are_told_apart() -> None:
    lines = [{"shots": 30, "sum": "secure", "method": "private-mean", "points": [point(0.5, 0.4, seeds=1)]}]
    assert "95% patient bootstrap of one seed" in list(sweep.told(findings(lines=lines)))[1]
    lines[0]["points"] = [point(0.5, 0.4, seeds=1), point(1.0, 0.4, seeds=2)]
    assert "95% t-interval over 1 to 2 seeds, patient bootstrap where" in list(sweep.told(findings(lines=lines)))[1]


def test_the_lead_names_the_best_and_what_it_is_held_against() -> None:
    assert sweep.lead(findings(), 30) == (
        "With epsilon 4 promised to every patient, the best of 2 mechanisms on these test cases, private-mean, reached "
        "a balanced accuracy of 0.700 (0.650–0.750); without privacy, discriminant reached 0.800 (0.750–0.850); "  # noqa: RUF001
        "guessing gives 0.333."
    )
    free = findings()["lines"][2:]
    assert sweep.lead(findings(lines=free), 30).startswith("Without privacy, discriminant reached")


def test_the_page_is_whole_escaped_and_fetches_nothing() -> None:
    html = sweep.render(findings())
    reader = read(html)
    assert "Accuracy and privacy: <quick> & start" in reader.text and "<quick>" not in html
    assert len(reader.ids) == len(set(reader.ids))
    assert set(re.findall(r"https?://[^\s\"'<]+", html)) == {"http://www.w3.org/2000/svg"}
    assert not {"script", "link", "img", "iframe", "object"} & {tag for tag, _ in reader.seen}
    assert "url(" not in html and "@import" not in html and "default-src 'none'" in html
    assert "/secret/place" not in html
    assert "Synthetic data." in reader.text
    for words in findings()["sentences"]:
        assert words in reader.text
    assert sweep.render(findings()) == html


def test_the_page_has_a_part_for_every_number_of_shots() -> None:
    lines = [{**line, "shots": shots} for shots in (10, 30) for line in findings()["lines"]]
    found = findings(lines=lines, shots=[10, 30, 90], public_cases={"10": [8], "30": [20], "90": []})
    reader = read(sweep.render(found))
    assert {"shots-10", "shots-30"} <= set(reader.ids) and "shots-90" not in reader.ids
    assert sum(tag == "svg" for tag, _ in reader.seen) == 4


LINES = [
    Line("private-mean", [Point(epsilon, estimate(0.3 + 0.1 * place)) for place, epsilon in enumerate(EPSILONS)]),
    Line("private-sgd", [Point(0.5, estimate(0.3, None)), Point(1.0, estimate(None)), Point(4.0, estimate(0.4, 0.9))]),
]


def drawn(chance: float = 1 / 3) -> ElementTree.Element:
    return ElementTree.fromstring(against_epsilon(LINES, [("discriminant", estimate(0.8))], chance, "Title"))


def test_chance_is_a_dashed_line_at_its_height_and_references_are_level() -> None:
    (dashed,) = [line for line in drawn().iter(f"{SVG}line") if line.get("stroke-dasharray") == "6 5"]
    assert dashed.get("y1") == dashed.get("y2")
    higher = next(line for line in drawn(0.5).iter(f"{SVG}line") if line.get("stroke-dasharray") == "6 5")
    assert float(higher.get("y1", 0)) < float(dashed.get("y1", 0))
    (level,) = [group for group in drawn().iter(f"{SVG}g") if "without privacy" in str(group.findtext(f"{SVG}title"))]
    assert float(level[1].get("y1", 0)) < float(higher.get("y1", 0))  # 0.8 stands above 0.5
    words = [text.text for text in drawn().iter(f"{SVG}text")]
    assert {"guessing", "discriminant, not private", "private-mean", "private-sgd"} <= set(words)


def test_every_known_point_is_marked_and_bars_stay_inside() -> None:
    root = drawn()
    titles = [str(group.findtext(f"{SVG}title")) for group in root.iter(f"{SVG}g")]
    assert sum("epsilon" in title for title in titles) == 5
    assert "private-mean, epsilon 4: 0.500 0.450–0.550" in titles  # noqa: RUF001
    heights = [float(line.get(end, 0)) for line in root.iter(f"{SVG}line") for end in ("y1", "y2")]
    assert min(heights) >= 14 and max(heights) <= 374


def test_spent_and_promised_meet_on_the_diagonal() -> None:
    root = ElementTree.fromstring(spent_plot([("private-mean", [(0.5, 0.5), (4.0, 2.0), (1.0, 0.0)])], "Spent"))
    (diagonal,) = [line for line in root.iter(f"{SVG}line") if line.get("stroke-dasharray")]
    x1, y1, x2, y2 = (float(diagonal.get(end, 0)) for end in ("x1", "y1", "x2", "y2"))
    on, under = [(float(dot.get("cx", 0)), float(dot.get("cy", 0))) for dot in root.iter(f"{SVG}circle")]
    height = [y1 + (y2 - y1) * (x - x1) / (x2 - x1) for x, _ in (on, under)]
    assert on[1] == pytest.approx(height[0], abs=0.2)
    assert under[1] > height[1] + 10  # lower on the page: less was spent


@pytest.mark.parametrize("epsilons", [(2.0,), (0.5, 0.5)])
def test_one_epsilon_can_be_drawn(epsilons: tuple[float, ...]) -> None:
    line = Line("private-mean", [Point(epsilon, estimate(0.5)) for epsilon in epsilons])
    assert "nan" not in against_epsilon([line], [], 0.5, "One")
    assert "nan" not in spent_plot([("private-mean", [(epsilon, epsilon) for epsilon in epsilons])], "One")


def test_labels_keep_apart_in_order_and_on_the_page() -> None:
    assert apart([], 16.0, 100.0) == []
    assert apart([10.0, 60.0], 16.0, 100.0) == [10.0, 60.0]
    crowded = apart([50.0, 50.0, 50.0, 99.0], 16.0, 100.0)
    assert crowded == pytest.approx([34.0, 50.0, 66.0, 99.0])
    low = apart([95.0, 98.0, 99.0], 16.0, 100.0)
    assert low == pytest.approx([68.0, 84.0, 100.0])


def test_many_lines_have_marks_of_their_own() -> None:
    looks = {(sweep_plots.colour(number), number % 5) for number in range(40)}
    assert len(looks) == 40
