"""A schema says what it means, or is refused by table and key."""

import pytest

from medtl_core.errors import DataError
from medtl_core.formats.schema_file import parse, shipped

GOOD = """
classes = ["well", "ill"]
[roles]
label = "diagnosis"
[column.age]
type = "number"
unit = "years"
range = [0, 120]
[column.stage]
type = "category"
vocabulary = ["I", "II"]
"""


def test_the_agreed_meaning_has_units_ranges_and_vocabularies_but_nothing_of_a_hospitals_own_file() -> None:
    plain = parse(GOOD, "schema.toml").features
    assert plain == ("age (a, 0.0 to 120.0, about 60.0 by 30.0)", "stage=I", "stage=II", "stage=other")
    own = GOOD.replace('"years"', '"years"\nheader = "Alter"\nwritten = "mo"\nmissing = [-9]')
    assert parse(own + 'codes = { "1" = "I" }\n', "schema.toml").features == plain
    for change in ('"years"|"mo"', "120|110", '"I", "II"|"II", "I"'):
        assert parse(GOOD.replace(*change.split("|")), "schema.toml").features != plain


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("range = [0, 120]", "", r"column\.age.*range"),
        ("range = [0, 120]", "range = [120, 0]", "rise"),
        ("unit", "units", "'units'.*'unit'"),
        ('"years"', '"years"\nwritten = "yaers"', "yaers"),
        ('"number"', '"date"', "days since"),
        ('"number"', '"nummer"', "number, flag"),
        ('vocabulary = ["I", "II"]', "", "vocabulary"),
        ('vocabulary = ["I", "II"]', 'vocabulary = ["I"]\ncodes = { a = "III" }', "III"),
        ('label = "diagnosis"', 'event = "died"', "time together"),
        ('label = "diagnosis"', 'event = "died"\ntime = "days"', "describe the time"),
        ('label = "diagnosis"', 'label = "stage"', "twice"),
        ('"well", "ill"', '"well"', "two distinct"),
        ("[roles]", "[rolls]", "roles"),
        ("[roles]", "[encoder]\nfile = 'e.safetensors'\n[roles]", "sha256"),
        ("[roles]", "[roles", "TOML"),
    ],
)
def test_a_schema_that_cannot_be_meant_is_refused_by_table_and_key(old: str, new: str, words: str) -> None:
    with pytest.raises(DataError, match=words) as refused:
        parse(GOOD.replace(old, new, 1), "schema.toml")
    assert "schema.toml" in str(refused.value)


def test_known_sets_come_with_their_schema() -> None:
    heart, brca = shipped("heart_uci"), shipped("tcga_brca")
    assert len(heart.features) == 22 and heart.time is None
    assert len(brca.features) == 39 and brca.time is not None
