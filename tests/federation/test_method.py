"""A method's name becomes its fields."""

from dataclasses import dataclass
from typing import ClassVar

import pytest

from medtl_core.errors import ConfigError
from medtl_core.federation.method import Method
from medtl_core.federation.outcome import Outcome
from medtl_core.federation.registry import find_method, method_names
from medtl_core.federation.study import Study


@dataclass(frozen=True)
class Typed(Method):
    syntax: ClassVar[str] = r"typed-(?P<count>\d+)-(?P<share>[.\d]+)(-(?P<word>[a-z]+))?(?P<flag>!)?"
    example: ClassVar[str] = "typed-3-0.5"

    count: int
    share: float
    word: str = "none"
    flag: bool = False

    def outcome(self, study: Study) -> Outcome:
        return Outcome({}, {})


def test_groups_fill_fields_by_their_type() -> None:
    assert Typed.parse("typed-3-0.5-soft!") == Typed("typed-3-0.5-soft!", 3, 0.5, "soft", True)
    assert Typed.parse("typed-3-0.5") == Typed("typed-3-0.5", 3, 0.5, "none", False)


@pytest.mark.parametrize("name", ["typed-x-0.5", "typed-3-0.5-soft!?", "", "Typed-3-0.5"])
def test_another_name_is_another_methods(name: str) -> None:
    assert Typed.parse(name) is None


def test_every_family_shows_a_name_that_can_be_typed() -> None:
    for name in method_names():
        assert find_method(name).name == name
    assert {"fedprox-20", "scaffold-20", "ridge", "fedavg-20-adjusted", "discriminant-standardised"} <= {
        *method_names()
    }


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("fedprox", "fedprox-20"),
        ("finetune", "finetune-last-5"),
        ("discriminent", "discriminant"),
        ("taps", "taps@all"),
    ],
)
def test_an_unknown_name_suggests_one_that_works(typed: str, meant: str) -> None:
    with pytest.raises(ConfigError, match=f"did you mean '{meant}'"):
        find_method(typed)
