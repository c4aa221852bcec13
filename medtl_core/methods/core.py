"""The methods every study can name: local and pooled references, closed-form heads, gradient heads and `auto`."""

from dataclasses import dataclass
from typing import Any, ClassVar, final

import numpy as np

from medtl_core.federation.folds import total
from medtl_core.federation.hospitals import ArraySpec, Request
from medtl_core.federation.method import Method
from medtl_core.federation.names import ALGORITHMS, RIVAL
from medtl_core.federation.outcome import Outcome, Share
from medtl_core.federation.study import Study
from medtl_core.heads.closed_form import FAMILIES
from medtl_core.heads.crossval import choose
from medtl_core.heads.linear import class_weights, penalised, to_raw
from medtl_core.heads.statistics import Float


@final
@dataclass(frozen=True)
class Local(Method):
    """Every hospital's own logistic head: the reference of no collaboration."""

    syntax: ClassVar[str] = "local"
    example: ClassVar[str] = "local"
    summary: ClassVar[str] = "each hospital alone: class-balanced logistic regression on its own cases"

    def outcome(self, study: Study) -> Outcome:
        """See Method."""
        expect = {"head": ArraySpec((len(study.problem.classes), study.problem.width + 1))}
        replies = study.hospitals.ask(Request("local", expect=expect))
        heads = {reply.site: study.head(reply.arrays["head"], "local", {"site": reply.site}) for reply in replies}
        return Outcome(heads, {"local": Share()})


@final
@dataclass(frozen=True)
class Closed(Method):
    """A head solved from sums: the name of one of `heads.closed_form.FAMILIES`."""

    syntax: ClassVar[str] = "|".join(FAMILIES)
    example: ClassVar[str] = "discriminant"
    summary: ClassVar[str] = "solved by the server from summed statistics; strength and temperature by cross-validation"

    def outcome(self, study: Study) -> Outcome:
        """See Method."""
        found = study.solved(self.name, self.name)
        head = study.head(found.affine, self.name, found.facts)
        return Outcome({"": head}, found.bill, found.server_cpu, found.facts)


@final
@dataclass(frozen=True)
class Taps(Method):
    """The discriminant on the run of neighbouring taps that cross-validation prefers."""

    syntax: ClassVar[str] = "discriminant-taps"
    example: ClassVar[str] = "discriminant-taps"
    summary: ClassVar[str] = "the discriminant on the taps that cross-validation chooses from the same sums"

    def outcome(self, study: Study) -> Outcome:
        """See Method."""
        runs = study.runs()
        best = min(runs, key=lambda taps: study.choices[f"discriminant@{taps}"].loss)
        found = study.solved(f"discriminant@{best}", "discriminant", runs[best])
        facts = {**found.facts, "taps": best}
        bill = {"statistics": Share(), "validate": Share()}
        return Outcome({"": study.head(found.affine, "discriminant", facts)}, bill, found.server_cpu, facts)


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

    def outcome(self, study: Study) -> Outcome:
        """See Method."""
        course = study.course(self.algorithm)
        affine = study.finished(course.heads[self.rounds], self.adjusted)[0]
        facts = {"rounds": self.rounds, "adjusted": self.adjusted}
        rounds = self.rounds / max(course.heads)
        bill = {"moments": Share(), f"fit-{self.algorithm}": Share(rounds, rounds / course.stack)}
        return Outcome({"": study.head(affine, self.algorithm, facts)}, bill, 0.0, facts)


@final
@dataclass(frozen=True)
class Auto(Method):
    """The head with the lowest cross-validated, class-balanced log-loss among ridge, discriminant and `RIVAL`."""

    syntax: ClassVar[str] = "auto"
    example: ClassVar[str] = "auto"
    summary: ClassVar[str] = "the default: cross-validation chooses among ridge, discriminant and adjusted FedAvg"

    def outcome(self, study: Study) -> Outcome:
        """See Method."""
        stack = study.finished(study.course(RIVAL.algorithm).heads[RIVAL.rounds], RIVAL.adjusted)
        rival = choose(study.validate(stack[1:, None], "validate-rival"), study.statistics.counts)
        losses = {name: study.choices[name].loss for name in ("ridge", "discriminant")} | {RIVAL.name: rival.loss}
        best = min(losses, key=lambda name: losses[name])
        facts: dict[str, Any] = {"chosen": best, "losses": losses}
        if best == RIVAL.name:  # its temperature comes from cross-validation too
            affine, spent = stack[0] * rival.temperature, 0.0
            facts |= {"rounds": RIVAL.rounds, "adjusted": RIVAL.adjusted}
        else:
            found = study.solved(best, best)
            affine, spent = found.affine, found.server_cpu
            facts = {**found.facts, **facts}
        bill = dict.fromkeys(("moments", "statistics", "validate", "fit-fedavg", "validate-rival"), Share())
        kind = RIVAL.algorithm if best == RIVAL.name else best
        return Outcome({"": study.head(affine, kind, facts)}, bill, spent, facts)


@final
@dataclass(frozen=True)
class PooledLogistic(Method):
    """Class-balanced logistic regression on all cases, by L-BFGS on summed gradients: exact, but many rounds."""

    syntax: ClassVar[str] = "pooled-logistic"
    example: ClassVar[str] = "pooled-logistic"
    summary: ClassVar[str] = "reference: exact logistic regression on all cases, from sums of gradients"

    def outcome(self, study: Study) -> Outcome:
        """See Method."""
        from scipy.optimize import minimize

        moments, classes, width = study.moments, len(study.problem.classes), study.problem.width
        fixed = {"mean": moments.mean, "scale": moments.scale, "weight": class_weights(moments.counts)}
        expect = {"loss": ArraySpec((1,)), "gradient": ArraySpec((classes, width + 1))}

        def objective(flat: Float) -> tuple[float, Float]:
            head = flat.reshape(classes, width + 1)
            request = Request("gradient", arrays={"head": head, **fixed}, expect=expect)
            sums = total(reply.arrays for reply in study.hospitals.ask(request))
            return penalised(float(sums["loss"][0]), sums["gradient"], head, float(moments.counts.sum()), 1e-2)

        start = np.zeros(classes * (width + 1))
        found = minimize(objective, start, jac=True, method="L-BFGS-B", options={"maxiter": 60})
        affine = to_raw(found.x.reshape(classes, width + 1), moments.mean, moments.scale, moments.counts > 0)
        facts = {"evaluations": int(found.nfev)}
        bill = {"moments": Share(), "gradient": Share()}
        return Outcome({"": study.head(affine, "pooled-logistic", facts)}, bill, 0.0, facts)


METHODS: tuple[type[Method], ...] = (Local, Closed, Taps, GradientMethod, Auto, PooledLogistic)
