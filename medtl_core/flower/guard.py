"""What a hospital tells the server when a handler raises, never the exception's own text; how that is read there."""

import functools
import logging
import re
from collections.abc import Callable, Mapping

from flwr.app import Context, Error, Message

from medtl_core.errors import BudgetError, MedtlError, PatientsError, PrivacyError, ProtocolError
from medtl_core.evaluation.result import FailedReply

Handler = Callable[[Message, Context], Message]

_MARK = re.compile(r"\[medtl (\w{1,60})\] ([^\n\r\x1b]{0,200})")

#: Flower's error code -> (medtl's word, what it means). Codes 5 and 8 come 50 to 60 s after the event.
FAULTS: Mapping[int, tuple[str, str]] = {
    0: ("unknown-error", "the hospital's node met an unknown error"),
    1: ("app-not-loaded", "the hospital could not load the ClientApp; are the dependencies installed there?"),
    2: ("client-error", "the hospital's ClientApp raised an error"),
    3: ("expired", "the message or its reply was no longer available"),
    4: ("no-reply", "the hospital's reply was lost between SuperNode and SuperLink"),
    5: ("node-unavailable", "the hospital's SuperNode went away"),
    6: ("mod-refused", "a mod of the hospital's ClientApp refused the message"),
    7: ("app-refused", "the hospital refused the app bundle"),
    8: ("client-crashed", "the hospital's ClientApp process died, perhaps out of memory"),
}

#: Errors that tell of versions, of public numbers or of what was spent, and of no patient.
_PUBLIC = (ProtocolError, BudgetError, PatientsError)

_UNPRINTABLE = re.compile(r"\x1b\[[0-9;]*m|[^\x20-\x7e]")
#: How Flower words an exception; what follows the class may hold a path or a value and is dropped.
_RAISED = re.compile(r"<class '([\w.]{1,100})'>")


def guarded(handler: Handler, *, private: Callable[[Context], bool] = lambda context: False) -> Handler:
    """Wraps a client handler so that no value, path or identity leaves in an error.

    Flower sends an exception's text to the server. Here the server gets the exception's class name and, for an error of
    medtl, its `public_text`; the error goes to the hospital's own log (`logging.getLogger("medtl")`), one
    that is not of medtl with its traceback.

    Guarantee:
        Where `private` says so of a message's context, every error is told as a PrivacyError, but for those that follow
        from the message, public numbers and the ledger: ProtocolError, BudgetError and PatientsError.
    """
    log = logging.getLogger("medtl")

    @functools.wraps(handler)
    def call(message: Message, context: Context) -> Message:
        try:
            return handler(message, context)
        except Exception as error:
            told = PrivacyError() if private(context) and type(error) not in _PUBLIC else error
            text = told.public_text if isinstance(told, MedtlError) else MedtlError.public_text
            public = f"[medtl {type(told).__name__}] {text}"
            known, asked = isinstance(error, MedtlError), message.metadata.message_type
            log.error("the answer to %r failed at this hospital: %s", asked, error, exc_info=not known)
        # outside the handler: an exception raised inside one carries the first along as its context
        raise RuntimeError(public)

    return call


def failure(site: str, error: Error) -> FailedReply:
    """Returns the failure that an error reply stands for.

    Of an exception that `guarded` did not catch only the class is told; of Flower's own words the first line.
    """
    word, meaning = FAULTS.get(error.code, ("unknown-error", f"error code {error.code}, unknown to this version"))
    told = error.reason or ""
    mark, raised = _MARK.search(told), _RAISED.search(told)
    if mark:
        return FailedReply(site, "error", _UNPRINTABLE.sub("", f"{mark[1]}: {mark[2]}".removesuffix("'>").rstrip()))
    reason = _UNPRINTABLE.sub("", raised[1] if raised else told.split("\n", 1)[0])[:200]
    return FailedReply(site, word, f"{meaning} ({reason})" if reason else meaning)
