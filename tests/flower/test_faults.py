import pytest
from flwr.app import Error

from medtl_core.flower.guard import failure


@pytest.mark.parametrize("code", [0, 1, 2, 6])
@pytest.mark.parametrize(
    "reason",
    [
        "<class 'KeyError'>:<'patient 4711 in /data/x.png'>",
        "\x1b[36mray::task()\x1b[0m <class 'KeyError'>:<'patient 4711'>\n  File '/data/x.py', line 3\nValueError: 4711",
    ],
)
def test_of_an_unguarded_exception_only_the_class_is_told(code: int, reason: str) -> None:
    told = failure("a", Error(code=code, reason=reason))
    assert told.text.endswith("(KeyError)")
    assert "4711" not in told.text
    assert "/data" not in told.text


def test_what_flower_itself_says_is_kept_in_one_line() -> None:
    told = failure("a", Error(code=5, reason="Node Unavailable\nand more"))
    assert (told.code, told.text) == ("node-unavailable", "the hospital's SuperNode went away (Node Unavailable)")


def test_a_mark_that_a_hospital_forges_stays_short_and_printable() -> None:
    told = failure("a", Error(code=2, reason="[medtl DataError] \x07\u202e\x9b31m" + "x" * 10_000))
    assert told.code == "error"
    assert told.text.isascii()
    assert told.text.isprintable()
    assert len(told.text) < 250


def test_no_reason_is_no_error() -> None:
    assert failure("a", Error(code=8, reason=None)).code == "client-crashed"  # type: ignore[arg-type]
