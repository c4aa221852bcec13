"""Flower's fixed pauses, shortened for the process that asks for it; `tests/flower/test_compat.py` keeps the names."""

#: Seconds before a part of a message that is on its way still is asked for again, at first; Flower's own is 1.
AGAIN = 0.05
#: Seconds between two signs of life that the server is promised; after twice as many it counts a node as gone. Flower's
#: own are 30.
BEAT = 15
#: Seconds within which the next part of a message must come that a hospital has announced; Flower's own are 180. A part
#: has at most 20 MB.
PART = 75


def ask_soon_again() -> None:
    """Waits less for the parts of a message: it is announced before its last part is there."""
    from flwr.supercore.inflatable import inflatable_utils as inflatable

    for pull in (inflatable.pull_objects, inflatable.pull_and_inflate_object_from_tree):
        pull.__kwdefaults__ = {**(pull.__kwdefaults__ or {}), "initial_backoff": AGAIN}


def beat_often() -> None:
    """Lets the server notice in half a minute, and not in a whole one, that a node has died, or comes back."""
    from flwr.supercore import heartbeat
    from flwr.supernode import fleet_http_connection as connection

    for module in (heartbeat, connection):
        setattr(module, "HEARTBEAT_DEFAULT_INTERVAL", BEAT)  # noqa: B010 - mypy: a module's constant


def give_up_soon() -> None:
    """Lets a coordinator notice sooner that a node died while it sent."""
    from flwr.supercore.corestate import in_memory_corestate as corestate

    setattr(corestate, "OBJECT_PUSH_SESSION_TTL_SECONDS", PART)  # noqa: B010 - mypy: a module's constant
