"""What a hospital tells the server when a handler raises: never the exception's own text."""

import functools
import logging
import re
from collections.abc import Callable

from flwr.app import Context, Message

from medtl_core.errors import MedtlError

Handler = Callable[[Message, Context], Message]

_MARK = re.compile(r"\[medtl (\w{1,60})\] ([^\n\r\x1b]{0,200})")


def guarded(handler: Handler) -> Handler:
    """Wraps a client handler so that no value, path or identity leaves in an error.

    Flower sends an exception's text to the server. Here the server gets the exception's class name and, for an error of
    medtl, its `public_text`; the traceback goes to the hospital's own log (`logging.getLogger("medtl")`).
    """

    @functools.wraps(handler)
    def call(message: Message, context: Context) -> Message:
        try:
            return handler(message, context)
        except MedtlError as error:
            public = f"[medtl {type(error).__name__}] {error.public_text}"
            _log(message)
        except Exception as error:
            public = f"[medtl {type(error).__name__}] {MedtlError.public_text}"
            _log(message)
        # outside the handlers: an exception raised inside one carries the first along as its context
        raise RuntimeError(public)

    return call


def told(reason: str) -> tuple[str, str] | None:
    """Returns (class name, public text) of an error that `guarded` raised, found in what Flower made of it, or None.

    Example:
        >>> told("<class 'RuntimeError'>:<'[medtl DataError] the data could not be used'>")
        ('DataError', 'the data could not be used')
    """
    found = _MARK.search(reason)
    return (found[1], found[2].removesuffix("'>").rstrip()) if found else None


def _log(message: Message) -> None:
    logging.getLogger("medtl").exception("the answer to %r failed at this hospital", message.metadata.message_type)
