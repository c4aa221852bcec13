"""Ensembles of judged heads."""

from dataclasses import dataclass
from typing import ClassVar, final

from medtl_core.errors import ConfigError
from medtl_core.federation.method import Method
from medtl_core.federation.outcome import Outcome
from medtl_core.federation.study import Study


@final
@dataclass(frozen=True)
class Ensemble(Method):
    """A mean of other methods' probabilities, weighed on the server's cases; made by the central evaluation."""

    syntax: ClassVar[str] = "ensemble-(?P<members>local|weighted|all)"
    example: ClassVar[str] = "ensemble-weighted"
    summary: ClassVar[str] = "mean probability of the hospitals' own heads (all: and the federated ones)"
    test: ClassVar[str] = "server"

    members: str

    def outcome(self, study: Study) -> Outcome:
        """Refuses: an ensemble needs the scores of its members.

        Raises:
            ConfigError: always.
        """
        raise ConfigError(f"{self.name} is made from judged members; ask for it in `methods` with test=server")


METHODS: tuple[type[Method], ...] = (Ensemble,)
