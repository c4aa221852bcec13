import itertools
import re
from xml.etree import ElementTree

import pytest

from medtl_core.report import bars, plots, pool
from medtl_core.report.svg import Scale, element, text, ticks

SVG = "{http://www.w3.org/2000/svg}"
KNOWN = {"mean": 0.6, "low": 0.5, "high": 0.7}
UNKNOWN = {"mean": None, "low": None, "high": None}


def parsed(picture: str) -> ElementTree.Element:
    return ElementTree.fromstring(picture)


def exchange(phase: str, number: int, up: float = 1000.0) -> pool.Exchange:
    return pool.Exchange(phase, number, 0.5, up, 10.0, 3.0, 0.0)


def test_scale_maps_both_directions() -> None:
    assert Scale(0, 10, 100, 200)(5) == 150
    assert Scale(0, 1, 200, 100)(0.25) == 175
    assert Scale(1, 1, 0, 10)(1) == 5


@pytest.mark.parametrize("low, high", [(0.0, 1.0), (0.35, 0.8), (0.0, 3.2e6), (-2.0, 2.0), (0.0, 1e-4)])
def test_ticks_are_inside_and_few(low: float, high: float) -> None:
    found = ticks(low, high)
    assert 3 <= len(found) <= 9
    assert low - 1e-12 <= found[0] and found[-1] <= high + 1e-9
    steps = {round(after - before, 12) for before, after in itertools.pairwise(found)}
    assert len(steps) == 1


def test_text_and_attributes_are_escaped() -> None:
    assert "<b>" not in text("<b>", 0, 0)
    assert element("g", fill='"><script>').count("<") == 1


def test_comparison_draws_a_whisker_where_an_interval_is_known() -> None:
    rows = [plots.Row("a", [KNOWN]), plots.Row("b", [{**KNOWN, "low": None, "high": None}]), plots.Row("c", [UNKNOWN])]
    root = parsed(plots.comparison(rows, ["AUROC"]))
    assert len(root.findall(f".//{SVG}circle")) == 2
    whiskers = [line for line in root.iter(f"{SVG}line") if line.get("stroke-width") == "2"]
    assert len(whiskers) == 3
    circle = root.find(f".//{SVG}circle")
    assert circle is not None
    assert float(whiskers[0].get("x1", 0)) < float(circle.get("cx", 0)) < float(whiskers[0].get("x2", 0))


def test_comparison_axis_holds_intervals_that_leave_the_unit_range() -> None:
    wide = {"mean": 0.9, "low": -0.4, "high": 2.2}
    root = parsed(plots.comparison([plots.Row("a", [wide])], ["AUROC"]))
    places = [float(line.get(end, 0)) for line in root.iter(f"{SVG}line") for end in ("x1", "x2")]
    assert all(0 <= place <= plots.WIDTH for place in places)


def test_references_differ_from_methods_by_shape() -> None:
    rows = [plots.Row("a", [KNOWN]), plots.Row("local", [KNOWN], reference=True)]
    filled, hollow = parsed(plots.comparison(rows, ["x"])).findall(f".//{SVG}circle")
    assert filled.get("fill") == filled.get("stroke")
    assert hollow.get("fill") != hollow.get("stroke")


def test_roc_curve_runs_between_the_corners() -> None:
    panel = plots.RocPanel("a", ([0.0, 0.0, 1.0], [0.0, 1.0, 1.0]), 1.0, 12)
    root = parsed(plots.roc_grid([panel], None))
    line = root.find(f"{SVG}polyline")
    assert line is not None
    (x0, y0), (x1, y1), (x2, y2) = [map(float, point.split(",")) for point in line.get("points", "").split()]
    assert x0 == x1 < x2
    assert y0 > y1 == y2
    assert x2 - x0 == pytest.approx(y0 - y1)
    assert "12 test cases" in "".join(root.itertext())


def test_roc_panel_without_a_curve_says_so() -> None:
    picture = plots.roc_grid([plots.RocPanel("one-class", None, None, 3)], ([0, 1], [0, 1]))
    assert "AUROC not defined" in picture


@pytest.mark.parametrize("count", [1, 3, 4, 5, 24])
def test_roc_panels_stay_inside_the_picture(count: int) -> None:
    root = parsed(plots.roc_grid([plots.RocPanel(f"s{i}", ([0, 1], [0, 1]), 0.5) for i in range(count)], None))
    _, _, width, height = map(float, root.get("viewBox", "").split())
    assert width <= plots.WIDTH
    for box in root.findall(f"{SVG}rect"):
        assert float(box.get("x", 0)) + float(box.get("width", 0)) <= width
        assert float(box.get("y", 0)) + float(box.get("height", 0)) <= height


def test_reliability_puts_dots_by_confidence_and_bars_by_count() -> None:
    root = parsed(plots.reliability([pool.Bin(0.2, 0.1, 5), pool.Bin(0.8, 0.9, 10)]))
    low, high = root.findall(f".//{SVG}circle")
    assert float(low.get("cx", 0)) < float(high.get("cx", 0))
    assert float(low.get("cy", 0)) > float(high.get("cy", 0))
    short, tall = (float(bar.get("height", 0)) for bar in root.findall(f".//{SVG}rect"))
    assert tall == 2 * short


def test_site_bars_are_as_long_as_their_values() -> None:
    root = parsed(bars.site_bars({"auto": {"a": 0.8, "b": 0.4}, "local": {"a": None, "b": 0.2}}))
    lengths = [float(bar.get("width", 0)) for bar in root.findall(f"{SVG}g/{SVG}rect")]
    assert lengths == pytest.approx([4 * lengths[2], 2 * lengths[2], lengths[2]], abs=0.2)
    assert "not defined" in "".join(root.itertext())


def test_round_bars_name_each_phase_once() -> None:
    exchanges = [exchange("join", 1)] + [exchange("fit", number) for number in range(1, 30)]
    root = parsed(bars.round_bars(exchanges))
    words = [label.text for label in root.findall(f"{SVG}text")]
    assert words.count("fit") == 1
    assert words.count("join") == 1


def test_long_phase_names_are_cut_and_slanted() -> None:
    exchanges = [exchange(f"a-phase-with-a-very-long-name-{number}", 1) for number in range(20)]
    picture = bars.round_bars(exchanges)
    assert picture.count("rotate(-40") == 20
    assert "a-phase-with-a-…" in picture


def test_round_bars_of_nothing_sent() -> None:
    parsed(bars.round_bars([exchange("local", 1, up=0.0)]))


@pytest.mark.parametrize(
    "picture",
    [
        plots.comparison([], []),
        plots.comparison([plots.Row("<&>", [KNOWN])], ["<x>"]),
        plots.roc_grid([], None),
        plots.reliability([]),
        bars.site_bars({}),
        bars.round_bars([]),
        bars.round_bars([exchange("<fit>", 1)]),
    ],
)
def test_every_picture_is_well_formed_and_named(picture: str) -> None:
    root = parsed(picture)
    assert root.get("role") == "img"
    title, description = root.find(f"{SVG}title"), root.find(f"{SVG}desc")
    assert title is not None and title.text
    assert description is not None and description.text
    assert root.get("aria-labelledby") == f"{title.get('id')} {description.get('id')}"
    assert not re.search(r"nan|inf\b", picture)
