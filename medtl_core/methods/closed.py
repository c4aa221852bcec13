"""Heads that need no rounds of training: each hospital's own, those solved from sums, the exact pooled one."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np

from medtl_core.federation.folds import total
from medtl_core.federation.hospitals import ArraySpec, Request
from medtl_core.federation.method import Candidates, Method
from medtl_core.federation.outcome import Outcome, Share
from medtl_core.federation.study import Study
from medtl_core.federation.tasks import Arrays, Config, SiteData, Task
from medtl_core.heads.closed_form import FAMILIES
from medtl_core.heads.linear import class_weights, local_head, loss_and_gradient, penalised, to_raw, with_bias
from medtl_core.heads.statistics import Float
from medtl_core.values import Released, Update


def local(site: SiteData, arrays: Arrays, config: Config) -> Released:
    """The head this hospital would train alone, [C, d + 1] on raw features; see `heads.linear.local_head`."""
    return Released(Update({"head": local_head(site.values, site.label, site.classes)}))


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

    def needs(self, study: Study) -> tuple[Candidates, ...]:
        """See Method."""
        return (Candidates(self.name),)

    def outcome(self, study: Study) -> Outcome:
        """See Method."""
        solved, bill = study.solved(self.name), study.closed_bill(self.needs(study))
        return Outcome({"": study.head(solved.affine, self.name, solved.facts)}, bill, solved.server_cpu, solved.facts)


@final
@dataclass(frozen=True)
class Taps(Method):
    """The discriminant on the run of neighbouring taps that cross-validation prefers."""

    syntax: ClassVar[str] = "discriminant-taps"
    example: ClassVar[str] = "discriminant-taps"
    summary: ClassVar[str] = "the discriminant on the taps that cross-validation chooses from the same sums"

    def needs(self, study: Study) -> tuple[Candidates, ...]:
        """See Method."""
        return tuple(Candidates("discriminant", taps) for taps in study.runs())

    def outcome(self, study: Study) -> Outcome:
        """See Method."""
        heads = {taps: study.solved("discriminant", taps) for taps in study.runs()}
        best = min(heads, key=lambda taps: heads[taps].choice.loss)
        facts = {**heads[best].facts, "taps": best}
        head = study.head(heads[best].affine, "discriminant", facts)
        spent = sum(solved.server_cpu for solved in heads.values())
        return Outcome({"": head}, study.closed_bill(self.needs(study)), spent, facts)


def gradient(site: SiteData, arrays: Arrays, config: Config) -> Released:
    """Summed class-weighted log-loss [1] and its gradient [C, d + 1] at a given head."""
    inputs = with_bias(site.values, arrays["mean"], arrays["scale"])
    loss, slope = loss_and_gradient(arrays["head"], inputs, site.label, arrays["weight"])
    return Released(Update({"loss": np.array([loss]), "gradient": slope}))


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
        minimum = minimize(objective, start, jac=True, method="L-BFGS-B", options={"maxiter": 60})
        affine = to_raw(minimum.x.reshape(classes, width + 1), moments.mean, moments.scale, moments.counts > 0)
        facts = {"evaluations": int(minimum.nfev)}
        bill = {"moments": Share(), "gradient": Share()}
        return Outcome({"": study.head(affine, "pooled-logistic", facts)}, bill, 0.0, facts)


METHODS: tuple[type[Method], ...] = (Local, Closed, Taps, PooledLogistic)
TASKS: Mapping[str, Task] = {task.__name__: task for task in (local, gradient)}
