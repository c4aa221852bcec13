"""What server and hospitals must agree on before an array is worth adding."""

import re

from medtl_core.config import Settings
from medtl_core.errors import ProtocolError
from medtl_core.values import digest

#: Version of the messages; a change in any task's arrays raises it.
PROTOCOL = 2
#: What a server marks each of its messages with (Flower's group id): read before anything of a message is understood.
PROTOCOL_MARK = f"protocol-{PROTOCOL}"
_MARK = re.compile(r"protocol-[0-9]{1,6}")


def agreement(settings: Settings, classes: tuple[str, ...], fingerprint: str) -> str:
    """Returns the hash both sides compute for themselves; a reply with another one is of a foreign run.

    It covers the agreed settings with the seed, the classes in order and the fingerprint of the features
    (weights, taps, pooling, size, views).
    """
    # every message states its protocol beside; this one's hash stays, so that state and ledgers on disk are found again
    return digest({"protocol": 1, "settings": settings.agreed(), "classes": list(classes), "features": fingerprint})


def check_protocol(group: str) -> None:
    """Refuses a run whose messages are of another version.

    Args:
        group: of the message: a server marks all it sends with `PROTOCOL_MARK`.

    Raises:
        ProtocolError: it is another one.
    """
    if group != PROTOCOL_MARK:
        raise ProtocolError(group if _MARK.fullmatch(group) else "no protocol that is known", PROTOCOL_MARK)
