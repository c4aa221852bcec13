"""What server and hospitals must agree on before an array is worth adding."""

from medtl_core.config import Settings
from medtl_core.values import digest

#: Version of the messages; a change in any task's arrays raises it.
PROTOCOL = 2


def agreement(settings: Settings, classes: tuple[str, ...], fingerprint: str) -> str:
    """Returns the hash both sides compute for themselves; a reply with another one is of a foreign run.

    It covers the agreed settings with the seed, the classes in order and the fingerprint of the features
    (weights, taps, pooling, size, views).
    """
    # every message states its protocol beside; this one's hash stays, so that state and ledgers on disk are found again
    agreed = {"protocol": 1, "settings": settings.agreed(), "classes": list(classes), "features": fingerprint}
    return digest(agreed)
