"""The kernel of all charts: axes, ticks and escaped elements."""

import itertools
from xml.etree import ElementTree
from xml.sax import saxutils

import pytest

from medtl_core.report.charts import bars, forest
from medtl_core.report.estimate import Estimate
from medtl_core.report.svg import PANEL, Axis, element, text, ticks


def test_an_axis_maps_both_directions() -> None:
    assert Axis(0, 10, 100, 200)(5) == 150
    assert Axis(0, 1, 200, 100)(0.25) == 175
    assert Axis(1, 1, 0, 10)(1) == 5
    assert Axis(0, 1, 0, 10).clip(1.5) == 10


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


@pytest.mark.parametrize("words", ["a 'b' \"c\"", 'a "b"', "a 'b'", "a\tb\r\nc", "<a> & b", "&amp;", ""])
def test_an_attribute_is_written_as_the_standard_library_writes_it(words: str) -> None:
    assert element("g", id=words) == f"<g id={saxutils.quoteattr(words)}/>"
    assert ElementTree.fromstring(element("g", id=words)).get("id") == words


def test_every_row_of_a_panel_is_named_and_long_names_are_cut_and_told_in_full() -> None:
    long = "University Hospital of the Northern Region, Department of Radiology"
    for drawn in (
        bars({"join": 0.0, long: 2e6}, "Sent", "{:g}".format),
        forest({"a": Estimate(), long: Estimate(0.5, 0.4, 0.6)}, "x"),
    ):
        root = ElementTree.fromstring(drawn)
        shown = [label.text or "" for label in root.iter("{http://www.w3.org/2000/svg}text")]
        assert sum(word.startswith("University") and word.endswith("…") for word in shown) == 1
        titles = [label.text or "" for label in root.iter("{http://www.w3.org/2000/svg}title")]
        assert any(word.startswith(long) for word in titles)
        ends = [
            float(bar.get("x", 0)) + float(bar.get("width", 0)) for bar in root.iter("{http://www.w3.org/2000/svg}rect")
        ]
        assert all(end <= PANEL for end in ends)
    assert "circle" not in forest({"a": Estimate()}, "nothing is defined")
