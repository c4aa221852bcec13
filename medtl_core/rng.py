"""Named random streams from one seed.

A stream depends on the seed and on its names only, never on the order in which streams are made, on a node id or on a
thread, so that every road (in process, Ray, deployed) draws the same numbers. Privacy noise never comes from here.
"""

import hashlib

import numpy as np


def stream(seed: int, *names: str | int) -> np.random.Generator:
    """Returns the generator of the stream `names` under `seed`."""
    text = "/".join([str(int(seed)), *(str(name) for name in names)])
    return np.random.default_rng(np.frombuffer(hashlib.sha256(text.encode()).digest(), dtype=np.uint32))


def bucket(seed: int, name: str, buckets: int) -> int:
    """Returns a bucket in [0, buckets), from the seed and the name only; it keeps a patient in one fold."""
    return int.from_bytes(hashlib.sha256(f"{int(seed)}/{name}".encode()).digest()[:8], "big") % buckets
