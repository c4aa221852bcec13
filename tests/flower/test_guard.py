"""What a hospital's error tells the server: a class and a word, never a value, path or identity."""

import logging

import pytest
from flwr.app import Context, Error, Message, RecordDict

from medtl_core.errors import (
    BudgetError,
    ConfigError,
    DataError,
    MedtlError,
    PatientsError,
    PrivacyError,
    ProtocolError,
)  # fmt: skip
from medtl_core.flower import compat
from medtl_core.flower.guard import FAULTS, failure, guarded


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (DataError("patient 4711 in /data/x.png"), f"DataError: {DataError.public_text}"),
        (ValueError("patient 4711"), "ValueError: the site met an error"),
    ],
)
def test_a_guarded_handler_tells_no_more_than_its_class(
    error: Exception, told: str, caplog: pytest.LogCaptureFixture
) -> None:
    @guarded
    def handler(message: Message, context: Context) -> Message:
        raise error

    compat.take_identity(1, 1)
    question = Message(RecordDict(), 1000, "train.fit")
    with caplog.at_level(logging.ERROR, logger="medtl"), pytest.raises(RuntimeError) as raised:
        handler(question, None)  # type: ignore[arg-type]
    assert "4711" not in str(raised.value)
    assert raised.value.__cause__ is None
    assert raised.value.__context__ is None
    assert "4711" in caplog.text  # the hospital's own log has it all
    heard = failure("a", Error(code=2, reason=f"{type(raised.value)}:<'{raised.value}'>"))
    assert heard.code == "error"
    assert heard.text.startswith(told)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        *((error, PrivacyError) for error in (DataError("4711"), ConfigError(), ValueError("4711"), MemoryError())),
        *((error, type(error)) for error in (BudgetError("4711"), PatientsError("4711"), ProtocolError("7", "1"))),
        (type("OtherError", (BudgetError,), {})(), PrivacyError),
    ],
)
def test_under_privacy_one_class_is_told_but_for_what_is_public(error: Exception, told: type[MedtlError]) -> None:
    def handler(message: Message, context: Context) -> Message:
        raise error

    compat.take_identity(1, 1)
    with pytest.raises(RuntimeError) as raised:
        guarded(handler, private=lambda context: True)(Message(RecordDict(), 1, "train.fit"), None)  # type: ignore[arg-type]
    text = error.public_text if isinstance(error, told) and told is type(error) else told.public_text
    assert str(raised.value) == f"[medtl {told.__name__}] {text}"


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


@pytest.mark.parametrize("code", [*FAULTS, 99])
@pytest.mark.parametrize("reason", ["\x1b[31mgone\x1b[0m\nline two", None])
def test_every_error_of_flower_has_a_word_and_one_printable_line(code: int, reason: str | None) -> None:
    told = failure("a", Error(code=code, reason=reason))  # type: ignore[arg-type]
    assert told.code == FAULTS.get(code, ("unknown-error", ""))[0]
    assert told.text.endswith("(gone)") == (reason is not None)
    assert told.text.isprintable()


def test_a_mark_that_a_hospital_forges_stays_short_and_printable() -> None:
    told = failure("a", Error(code=2, reason="[medtl DataError] \x07\u202e\x9b31m" + "x" * 10_000))
    assert told.code == "error"
    assert told.text.isascii()
    assert told.text.isprintable()
    assert len(told.text) < 250
