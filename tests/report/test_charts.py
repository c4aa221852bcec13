"""The kernel of all charts: axes, ticks and escaped elements."""

import itertools
from xml.etree import ElementTree

import pytest

from medtl_core.report.charts import round_bars
from medtl_core.report.pool import MeanExchange
from medtl_core.report.svg import Axis, element, text, ticks


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


def test_each_phase_is_named_once_and_long_names_slant() -> None:
    def named(*phases: str) -> list[ElementTree.Element]:
        exchanges = [MeanExchange(phase, 1, 0.0, 0.0, 0.0, 3.0, 0.0) for phase in phases]
        return list(ElementTree.fromstring(round_bars(exchanges)).iter("{http://www.w3.org/2000/svg}text"))

    words = [label.text for label in named("join", *["fit"] * 29)]
    assert (words.count("fit"), words.count("join")) == (1, 1)
    slanted = [
        label for label in named(*(f"a-phase-with-a-very-long-name-{n}" for n in range(20))) if label.get("transform")
    ]
    assert len(slanted) == 20 and slanted[0].text == "a-phase-with-a-…"
