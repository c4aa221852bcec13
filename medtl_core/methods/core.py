"""The linear head trained by rounds, and ensembles of judged heads."""

from dataclasses import dataclass
from typing import ClassVar, final

from medtl_core.errors import ConfigError
from medtl_core.federation.method import Method, Need, Rounds
from medtl_core.federation.names import ALGORITHMS
from medtl_core.federation.outcome import Outcome, Share
from medtl_core.federation.study import Study


@final
@dataclass(frozen=True)
class GradientMethod(Method):
    """A linear head trained by a federated gradient algorithm, e.g. `fedavg-20-adjusted`.

    Attributes:
        algorithm: one of `names.ALGORITHMS`.
        rounds: of training.
        adjusted: whether the class prior is removed afterwards (Menon et al., ICLR 2021).
    """

    syntax: ClassVar[str] = (
        rf"(?P<algorithm>{'|'.join(ALGORITHMS)})-(?P<rounds>[1-9][0-9]{{0,3}})(?P<adjusted>-adjusted)?"
    )
    example: ClassVar[str] = "fedavg-20"
    summary: ClassVar[str] = "the linear head trained at hospitals and averaged, for so many rounds"

    algorithm: str
    rounds: int
    adjusted: bool

    def needs(self, study: Study) -> tuple[Need, ...]:
        """See Method."""
        return (self._need,)

    def outcome(self, study: Study) -> Outcome:
        """See Method."""
        course = study.course(self.algorithm)
        affine = study.finished(course.heads[self.rounds], self.adjusted)[0]
        facts = {"rounds": self.rounds, "adjusted": self.adjusted}
        bill = {"moments": Share(), f"fit-{self.algorithm}": study.course_share(self._need)}
        return Outcome({"": study.head(affine, self.algorithm, facts)}, bill, 0.0, facts)

    @property
    def _need(self) -> Rounds:
        return Rounds(self.algorithm, self.rounds)


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


METHODS: tuple[type[Method], ...] = (GradientMethod, Ensemble)
