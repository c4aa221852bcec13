"""Who takes part in one secure sum, who stays in it, and what its hospitals sign; both sides read it here."""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np

from medtl_core.errors import PrivacyError
from medtl_core.privacy import masking
from medtl_core.privacy.masking import Ints, to_bytes
from medtl_core.values import Array, digest

#: What a hospital sends of itself, int64: three times 32 bytes (its keys for parcels and for masks, and the commitment
#: to its own mask), its identity, how many colluders its policy wants withstood, and its signature of all that.
KEYS: Mapping[str, tuple[int, ...]] = {"public": (3, 4), "identity": (4,), "least": (1,), "signature": (8,)}
#: Places in "public".
SEAL, PAIR, OWN = range(3)


def session_of(agreement: str, plan: str, step: int, number: int) -> str:
    """Returns both sides' name for one sum, in every signature and key: the release of a plan under an agreement."""
    return digest({"agreement": agreement, "plan": plan, "step": step, "number": number})


def keys_statement(session: str, site: str, public: Array, least: int) -> bytes:
    """Returns what a hospital signs when it joins a sum."""
    return json.dumps(["keys", session, site, to_bytes(public).hex(), least]).encode()


def check_keys(session: str, site: str, keys: Mapping[str, Array], colluders: int) -> None:
    """Refuses what a hospital has sent of itself (`KEYS`).

    Raises:
        PrivacyError: it is not signed by its identity, a key is none, or it asks for more than the plan can withstand.
    """
    (least,) = keys["least"].tolist()
    statement = keys_statement(session, site, keys["public"], least)
    masking.check_signature(to_bytes(keys["identity"]), to_bytes(keys["signature"]), statement, site)
    for which in (SEAL, PAIR):
        masking.agreed_key(bytes(masking.SECRET), to_bytes(keys["public"][which]), "check")
    if not 0 <= least <= colluders:
        raise PrivacyError(f"{site!r} counts on {least} colluders, the plan on {colluders}; nothing is masked")


@dataclass(frozen=True)
class Standing:
    """Who is in a sum, as flags by place, int64 [n].

    Attributes:
        present: whose parcels were opened: pairwise masks are among these.
        survivors: of those, who sent a masked vector.
    """

    present: Ints
    survivors: Ints

    @property
    def arrays(self) -> dict[str, Array]:
        """As they are sent."""
        return {"present": self.present, "survivors": self.survivors}

    @property
    def gone(self) -> list[int]:
        """Places of those present that did not survive."""
        return [place for place in places(self.present) if not self.survivors[place]]

    def statement(self, session: str, roster: str) -> bytes:
        """Returns what a survivor signs, once in a sum."""
        return json.dumps(["survivors", session, roster, places(self.present), places(self.survivors)]).encode()


@dataclass(frozen=True)
class Roster:
    """The hospitals of one sum; a hospital's place is its position.

    Attributes:
        names: each once.
        keys: int64 arrays of `KEYS`, one row a hospital.
        colluders: t of the plan.
    """

    names: tuple[str, ...]
    keys: Mapping[str, Ints]
    colluders: int

    @classmethod
    def of(cls, keys: Mapping[str, Mapping[str, Array]], colluders: int) -> Self:
        """Returns the roster of hospitals by name, in name order."""
        names = tuple(sorted(keys))
        return cls(names, {key: np.stack([keys[name][key] for name in names]) for key in KEYS}, colluders)

    @classmethod
    def read(cls, names: Sequence[str], arrays: Mapping[str, Array], colluders: int) -> Self:
        """Returns the roster in a message.

        Raises:
            PrivacyError: it is not whole.
        """
        keys = {key: sent(arrays, f"roster-{key}", (len(names), *shape)) for key, shape in KEYS.items()}
        return cls(tuple(names), keys, colluders)

    @property
    def arrays(self) -> dict[str, Array]:
        """As they are sent to everybody."""
        return {f"roster-{key}": array for key, array in self.keys.items()}

    @cached_property
    def digest(self) -> str:
        """SHA-256 of everything in it."""
        return digest({"names": self.names, "keys": {key: array.tolist() for key, array in self.keys.items()}})

    @property
    def quorum(self) -> int:
        """How many must sign one standing, and hold shares that open a secret: (n + t) / 2, rounded down, plus one.

        Guarantee:
            Two such groups have more than t hospitals in common, and so an honest one, who signs one standing only and
            tells one share of each hospital: no two standings of one sum are ever opened (Bonawitz et al., CCS 2017,
            whose consistency check this is). With n > 3t hospitals, t of them may be silent; with fewer, fewer.

        Example:
            >>> [Roster(tuple("abcde"[:n]), {}, t).quorum for n, t in ((3, 1), (4, 1), (5, 1), (5, 2))]
            [3, 3, 4, 4]
        """
        return (len(self.names) + self.colluders) // 2 + 1

    def least(self, present: int) -> int:
        """Returns how many of those present must survive: each adds the noise of one in (present - t).

        Guarantee:
            With m colluders counted on, at least (present - t + m) - m hospitals in the sum are honest, whichever the
            server leaves out; m is the largest that a hospital of the roster asks for.
        """
        return max(self.quorum, present - self.colluders + int(self.keys["least"].max()))

    def among(self, names: Collection[str]) -> "Roster":
        """Returns the roster of some of its hospitals."""
        return Roster.of(
            {name: self.row(place) for place, name in enumerate(self.names) if name in names}, self.colluders
        )

    def row(self, place: int) -> dict[str, Array]:
        """Returns what one hospital has sent of itself."""
        return {key: array[place] for key, array in self.keys.items()}

    def public(self, place: int, which: int) -> bytes:
        """Returns one of a hospital's public keys, or its commitment."""
        return to_bytes(self.keys["public"][place, which])

    def flags(self, names: Collection[str]) -> Ints:
        """Returns which of the hospitals are among some, int64 [n]."""
        return np.array([name in names for name in self.names], np.int64)

    def at(self, flags: Array) -> list[str]:
        """Returns the names of hospitals by flags."""
        return [self.names[place] for place in places(flags)]

    def signed(self, place: int, signature: Array, statement: bytes) -> bool:
        """Returns whether a signature, int64 [8], of a hospital holds."""
        try:
            identity = to_bytes(self.keys["identity"][place])
            masking.check_signature(identity, to_bytes(signature), statement, self.names[place])
        except PrivacyError:
            return False
        return True


def places(flags: Array) -> list[int]:
    """Returns where flags are set."""
    return [int(place) for place in np.flatnonzero(flags)]


def sent(arrays: Mapping[str, Array], name: str, shape: tuple[int, ...]) -> Ints:
    """Returns an int64 array of a message.

    Raises:
        PrivacyError: it is missing or of another shape or dtype.
    """
    array = arrays.get(name)
    if array is None or array.shape != shape or array.dtype != np.int64:
        raise PrivacyError(f"secure sum: the message needs {name!r} as int64 {list(shape)}")
    return array
