"""Units by hand-computed values, round trips, and what does not convert."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medtl_core.errors import DataError
from medtl_core.formats.units import alternatives, conversion


@pytest.mark.parametrize(
    ("value", "written", "agreed", "analyte", "expected"),
    [
        (90, "mg/dL", "mmol/L", "glucose", 4.996),
        (200, "mg/dl", "mmol/l", "cholesterol", 5.173),
        (150, "mg/dL", "mmol/L", "triglycerides", 1.694),
        (1, "mg/dL", "µmol/L", "creatinine", 88.40),
        (20, "mg/dL", "mmol/L", "urea-nitrogen", 7.139),
        (1, "mg/dL", "umol/L", "bilirubin", 17.104),
        (14, "g/dL", "mmol/L", "haemoglobin", 8.688),
        (48, "mmol/mol", "%NGSP", "", 6.543),
        (98.6, "°F", "°C", "", 37.0),
        (310.15, "K", "degC", "", 37.0),
        (150, "lbs", "kg", "", 68.039),
        (70, "in", "cm", "", 177.8),
        (120, "mmHg", "kPa", "", 15.999),
        (4.5, "10^3/uL", "10^9/L", "", 4.5),
        (0.5, "ukat/L", "U/L", "", 30.0),
        (2, "years", "mo", "", 24.0),
        (90, "MG/DL", "mM", "glucose", 4.9957),
        (90, "mg%", "MMOL/L", "glucose", 4.9957),
    ],
)
def test_a_value_by_hand(value: float, written: str, agreed: str, analyte: str, expected: float) -> None:
    assert float(conversion(written, agreed, analyte)(np.array(float(value)))) == pytest.approx(expected, rel=2e-4)


@settings(max_examples=20, deadline=None)
@given(st.floats(-1e6, 1e6), st.sampled_from(sorted(alternatives("mmol/L", "glucose"))))
def test_back_and_forth_is_the_same(value: float, unit: str) -> None:
    there = conversion(unit, "mmol/L", "glucose")(np.array(value))
    assert float(conversion("mmol/L", unit, "glucose")(there)) == pytest.approx(value, rel=1e-12, abs=1e-12)


def test_a_value_in_the_agreed_unit_keeps_every_digit() -> None:
    values = np.array([1e9 + 1e-6, 0.1 + 0.2])
    assert conversion("mmol / l", "mmol/L")(values) is values


@pytest.mark.parametrize(
    ("written", "agreed", "analyte", "word"),
    [("mg/dL", "mmol/L", "", "analyte"), ("mg/dL", "mmol/L", "glukose", "glucose"), ("kg", "cm", "", "same"),
     ("mgdl", "mg/dL", "", "mg/dL")],
)  # fmt: skip
def test_what_does_not_convert_is_refused(written: str, agreed: str, analyte: str, word: str) -> None:
    with pytest.raises(DataError, match=word):
        conversion(written, agreed, analyte)
