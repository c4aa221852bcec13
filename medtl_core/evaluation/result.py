"""The record of a study, `result.json`: written by the server, read back by the report, the sweep and the benchmarks.

`Result.read(path)` and `Result.from_dict(record)` give the records that `as_dict` took apart, so that nothing behind
the file has to look into dictionaries. The layout on disk is schema 1.
"""

from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, field
from pathlib import Path
from typing import Any, Self

from medtl_core.errors import RunError
from medtl_core.evaluation.judgement import Judgement
from medtl_core.store import read_json

#: Version of the layout.
SCHEMA = 1


@dataclass(frozen=True)
class Cost:
    """Bytes, exchanges and seconds: of a phase, over all hospitals, or of a method, had it run alone.

    A method's bytes are those of one hospital, and the mean over several studies may have a broken number of rounds.

    Attributes:
        bytes_up: sent by the hospitals.
        bytes_down: received by the hospitals.
        rounds: number of exchanges.
        cpu_seconds: spent by the hospitals' handlers.
        wall_seconds: from the first message to the last reply.
    """

    bytes_up: int = 0
    bytes_down: int = 0
    rounds: float = 0
    cpu_seconds: float = 0.0
    wall_seconds: float = 0.0

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(*(mine + more for mine, more in zip(astuple(self), astuple(other), strict=True)))


@dataclass(frozen=True)
class MethodResult:
    """How one method did.

    Attributes:
        kind: "federated", "local", "personal" or "ensemble".
        judgement: its figures.
        cost: what it took.
        facts: JSON-able remarks.
    """

    kind: str
    judgement: Judgement
    cost: Cost = Cost()
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class DataSource:
    """Where the cases come from, in words.

    Attributes:
        synthetic: whether a program made them.
        notes: sentences that a reader of the results should know.
        contamination: which backbone learnt from them; "" = none is known to.
    """

    name: str = ""
    title: str = ""
    licence: str = ""
    synthetic: bool = False
    notes: Sequence[str] = ()
    contamination: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Returns what `result.json` keeps."""
        facts = {name: value for name, value in vars(self).items() if value or name != "contamination"}
        return {**facts, "notes": list(self.notes)}


@dataclass(frozen=True)
class RoundTrip:
    """One exchange with all hospitals: what was sent and received by all together, and how many answered or failed."""

    phase: str
    round: int
    seconds: float
    bytes_up: int
    bytes_down: int
    cpu_seconds: float = 0.0
    replies: int = 0
    failures: int = 0

    @property
    def cost(self) -> Cost:
        """What it cost."""
        return Cost(self.bytes_up, self.bytes_down, 1, self.cpu_seconds, self.seconds)


@dataclass(frozen=True)
class FailedReply:
    """Why a hospital did not contribute to a round."""

    site: str
    code: str
    text: str


@dataclass(frozen=True)
class Result:
    """One study, of one seed.

    Attributes:
        settings: as they were public, by their kebab-case names.
        versions: of what ran.
        classes: in agreed order.
        sites: hospital -> training cases.
        methods: name -> how it did, in the order asked for.
        fingerprint, width: of the agreed features.
        test_cases: of the server; 0 where hospitals judge.
        test_sites: sites of the server's cases.
        failures: replies that did not come or could not be used.
    """

    seed: int
    settings: Mapping[str, Any]
    versions: Mapping[str, str]
    data: DataSource
    classes: tuple[str, ...]
    sites: Mapping[str, int]
    methods: Mapping[str, MethodResult]
    fingerprint: str = ""
    width: int = 0
    test_cases: int = 0
    test_sites: tuple[str, ...] = ()
    exchanges: tuple[RoundTrip, ...] = ()
    failures: tuple[FailedReply, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Returns the result as `result.json` keeps it."""
        return {
            "schema": SCHEMA,
            "seed": self.seed,
            "settings": dict(self.settings),
            "versions": dict(self.versions),
            "data": self.data.as_dict(),
            "classes": list(self.classes),
            "features": {"fingerprint": self.fingerprint, "width": self.width},
            "sites": dict(self.sites),
            "test": {"cases": self.test_cases, "sites": list(self.test_sites)},
            "methods": {
                name: {
                    "kind": method.kind,
                    **method.judgement.as_dict(),
                    "cost": dict(vars(method.cost)),
                    "facts": dict(method.facts),
                }
                for name, method in self.methods.items()
            },
            "phases": [dict(vars(exchange)) for exchange in self.exchanges],
            "failures": [dict(vars(failure)) for failure in self.failures],
        }

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Self:
        """Returns the result that `as_dict` took apart.

        Raises:
            RunError: the record has another schema, or lacks what schema 1 holds.
        """
        if record.get("schema") != SCHEMA:
            raise RunError(
                f"result of seed {record.get('seed')} has schema {record.get('schema')!r}, this is schema {SCHEMA}; "
                "read it with the version of medtl that wrote it"
            )
        features, test = record.get("features", {}), record.get("test", {})
        try:
            return cls(
                int(record["seed"]),
                dict(record["settings"]),
                dict(record.get("versions", {})),
                DataSource(**record.get("data", {})),
                tuple(record["classes"]),
                dict(record["sites"]),
                {name: _method(method) for name, method in record["methods"].items()},
                features.get("fingerprint", ""),
                features.get("width", 0),
                test.get("cases", 0),
                tuple(test.get("sites", ())),
                tuple(RoundTrip(**row) for row in record.get("phases", ())),
                tuple(FailedReply(**row) for row in record.get("failures", ())),
            )
        except (KeyError, TypeError) as error:
            raise RunError(f"the result of seed {record.get('seed')} is not whole ({error}); run it again") from error

    @classmethod
    def read(cls, path: Path) -> Self:
        """Returns the result of a `result.json`.

        Raises:
            RunError: the file is missing, is not JSON or not a result of this schema.
        """
        return cls.from_dict(read_json(path))


def _method(record: Mapping[str, Any]) -> MethodResult:
    cost = Cost(**record.get("cost", {}))
    return MethodResult(record.get("kind", ""), Judgement.from_dict(record), cost, record.get("facts", {}))
