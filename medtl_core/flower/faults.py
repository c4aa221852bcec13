"""What Flower's error replies mean, in words a run's report can use."""

import re
from collections.abc import Mapping

from flwr.app import Error

from medtl_core.federation.hospitals import Failure
from medtl_core.flower.guard import told

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

_UNPRINTABLE = re.compile(r"\x1b\[[0-9;]*m|[^\x20-\x7e]")
#: How Flower words an exception; what follows the class may hold a path or a value and is dropped.
_RAISED = re.compile(r"<class '([\w.]{1,100})'>")


def failure(site: str, error: Error) -> Failure:
    """Returns the failure that an error reply stands for.

    Of an exception that `guarded` did not catch only the class is told; of Flower's own words the first line.

    Example:
        >>> failure("a", Error(code=2, reason="<class 'KeyError'>:<'patient 4711'>")).text
        "the hospital's ClientApp raised an error (KeyError)"
    """
    word, meaning = FAULTS.get(error.code, ("unknown-error", f"error code {error.code}, unknown to this version"))
    spoken = told(error.reason or "")
    if spoken is not None:
        return Failure(site, "error", _UNPRINTABLE.sub("", f"{spoken[0]}: {spoken[1]}"))
    raised = _RAISED.search(error.reason or "")
    reason = _UNPRINTABLE.sub("", raised[1] if raised else (error.reason or "").split("\n", 1)[0])[:200]
    return Failure(site, word, f"{meaning} ({reason})" if reason else meaning)
