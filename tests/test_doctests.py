"""Every example in a docstring gives what it shows."""

import doctest
import importlib

import pytest

from tests.house import this_house

EXAMPLES = sorted(name for name, file in this_house().modules.items() if ">>> " in file.text)


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_of_a_module(name: str) -> None:
    tried = doctest.testmod(importlib.import_module(name))
    assert tried.attempted > 0 and tried.failed == 0
