"""A study: what the server asks so that every requested method gets its head, each phase asked once."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from medtl_core.aggregate.folds import total
from medtl_core.calibrate import log_prior
from medtl_core.config import Settings
from medtl_core.heads.closed import FAMILIES
from medtl_core.heads.crossval import TEMPERATURES, Choice, choose
from medtl_core.heads.linear import class_weights, penalised, to_raw
from medtl_core.heads.statistics import TINY, Float, Statistics, unpack
from medtl_core.methods.hospitals import ArraySpec, Hospitals, Request
from medtl_core.methods.names import RIVAL, Gradient, gradient_method
from medtl_core.methods.trajectory import Course, run_course
from medtl_core.values import Head, Update


@dataclass(frozen=True)
class Problem:
    """What the server knows of the features without seeing one.

    Attributes:
        classes: in agreed order.
        fingerprint: of the features.
        groups: (tap, start, stop) of the feature columns.
    """

    classes: tuple[str, ...]
    fingerprint: str
    groups: tuple[tuple[str, int, int], ...]

    @property
    def width(self) -> int:
        """Number of features d."""
        return self.groups[-1][2]


@dataclass(frozen=True)
class Moments:
    """Pooled class counts [C], mean [d] and standard deviation [d], from sums."""

    counts: Float
    mean: Float
    scale: Float


@dataclass(frozen=True)
class Share:
    """How much of a phase a method would have caused alone.

    Attributes:
        rounds: share of the phase's exchanges.
        work: share of its bytes and CPU seconds; smaller when several heads travelled in one message.
    """

    rounds: float = 1.0
    work: float = 1.0


@dataclass(frozen=True)
class Outcome:
    """What a method gave.

    Attributes:
        heads: one federated head under "", or one for each hospital by name.
        bill: what the method needs of each phase.
        server_cpu: CPU seconds the server spent solving.
        facts: chosen strength, temperature, rounds...
    """

    heads: Mapping[str, Head]
    bill: Mapping[str, Share]
    server_cpu: float = 0.0
    facts: Mapping[str, Any] = field(default_factory=dict)


@final
class Study:
    """Obtains heads from hospitals. Phases run when first needed and are kept, so methods share what they share."""

    def __init__(self, hospitals: Hospitals, problem: Problem, settings: Settings, names: tuple[str, ...]) -> None:
        self.hospitals, self.problem, self.settings, self.names = hospitals, problem, settings, names
        self._courses: dict[str, Course] = {}
        self._cpu: dict[str, float] = {}

    def outcome(self, name: str) -> Outcome:
        """Returns the result of the method called `name`; ensembles are made from outcomes, not here."""
        gradient = gradient_method(name)
        if gradient is not None:
            return self._gradient(gradient)
        if name == "auto":
            return self._auto()
        if name in FAMILIES:
            return self._closed(name, name)
        made: dict[str, Any] = {
            "local": self._local,
            "pooled-logistic": self._pooled_logistic,
            "discriminant-taps": self._taps,
        }
        return made[name]()  # type: ignore[no-any-return]

    @cached_property
    def moments(self) -> Moments:
        """Pooled moments of the features (phase "moments")."""
        width, classes = self.problem.width, len(self.problem.classes)
        expect = {"counts": ArraySpec((classes,)), "sum": ArraySpec((width,)), "square": ArraySpec((width,))}
        sums = total(reply.arrays for reply in self.hospitals.ask(Request("moments", expect=expect)))
        cases = max(float(sums["counts"].sum()), 1.0)
        mean = sums["sum"] / cases
        return Moments(sums["counts"], mean, np.sqrt(np.maximum(sums["square"] / cases - mean**2, 0.0)) + TINY)

    @cached_property
    def folds(self) -> list[Statistics]:
        """Pooled statistics of each cross-validation fold (phase "statistics")."""
        folds, width, classes = self.settings.folds, self.problem.width, len(self.problem.classes)
        expect = {
            "counts": ArraySpec((folds, classes)),
            "sums": ArraySpec((folds, classes, width)),
            "gram": ArraySpec((folds, width * (width + 1) // 2)),
        }
        request = Request("statistics", config={"folds": folds}, expect=expect)
        return unpack(Update(total(reply.arrays for reply in self.hospitals.ask(request))))

    @cached_property
    def statistics(self) -> Statistics:
        """Pooled statistics of all training cases."""
        first, *others = self.folds
        return sum(others, start=first)

    @cached_property
    def choices(self) -> dict[str, Choice]:
        """Cross-validated strength and temperature of each closed-form candidate (phase "validate")."""
        everywhere = np.arange(self.problem.width)
        wanted = {name: (name, everywhere) for name in FAMILIES}
        if "discriminant-taps" in self.names:
            wanted |= {f"discriminant@{taps}": ("discriminant", columns) for taps, columns in self._runs().items()}
        with self._clock("validate"):
            stacks = {
                key: np.stack([self._spread(family, self.statistics - fold, columns) for fold in self.folds])
                for key, (family, columns) in wanted.items()
            }
        answers = self._validate(np.concatenate(list(stacks.values()), axis=1), "validate")
        choices, start = {}, 0
        for key, stack in stacks.items():
            stop = start + stack.shape[1]
            part = Update({name: array[start:stop] for name, array in answers.arrays.items()})
            choices[key], start = choose(part, self.statistics.counts), stop
        return choices

    def course(self, algorithm: str) -> Course:
        """Returns the trained heads of a gradient algorithm after each requested round (phase "fit-ALGORITHM")."""
        if algorithm not in self._courses:
            wanted = [gradient_method(name) for name in self.names] + ([RIVAL] if "auto" in self.names else [])
            rounds = {method.rounds for method in wanted if method and method.algorithm == algorithm}
            # `auto` needs the gradient head cross-validated: the fold heads train along in the same messages
            stack = 1 + self.settings.folds if "auto" in self.names and algorithm == "fedavg" else 1
            moments = self.moments
            start = np.zeros((stack, len(self.problem.classes), self.problem.width + 1))
            self._courses[algorithm] = run_course(
                self.hospitals, self.settings, algorithm, (start, moments.mean, moments.scale), frozenset(rounds)
            )
        return self._courses[algorithm]

    def _closed(self, key: str, family: str, columns: NDArray[np.int64] | None = None) -> Outcome:
        choice = self.choices[key]
        with self._clock(key) as spent:
            where = np.arange(self.problem.width) if columns is None else columns
            affine = self._spread(family, self.statistics, where)[choice.index] * choice.temperature
        facts = {"strength": FAMILIES[family].strengths[choice.index], **_facts(choice)}
        cpu = self._cpu["validate"] / max(len(self.choices), 1) + spent[0]
        share = len(FAMILIES[family].strengths) / self._candidates
        bill = {"statistics": Share(), "validate": Share(work=share)}
        return Outcome({"": self._head(affine, family, facts)}, bill, cpu, facts)

    def _taps(self) -> Outcome:
        runs = self._runs()
        best = min(runs, key=lambda taps: self.choices[f"discriminant@{taps}"].loss)
        outcome = self._closed(f"discriminant@{best}", "discriminant", runs[best])
        facts = {**outcome.facts, "taps": best}
        bill = {"statistics": Share(), "validate": Share()}
        return replace(outcome, heads={"": replace(outcome.heads[""], facts=facts)}, bill=bill, facts=facts)

    def _gradient(self, method: Gradient) -> Outcome:
        course = self.course(method.algorithm)
        affine = self._finished(course.heads[method.rounds], method.adjusted)[0]
        facts = {"rounds": method.rounds, "adjusted": method.adjusted}
        rounds = method.rounds / max(course.heads)
        bill = {"moments": Share(), f"fit-{method.algorithm}": Share(rounds, rounds / course.stack)}
        return Outcome({"": self._head(affine, method.algorithm, facts)}, bill, 0.0, facts)

    def _auto(self) -> Outcome:
        """The head with the lowest cross-validated, class-balanced log-loss among ridge, discriminant and `RIVAL`."""
        stack = self._finished(self.course(RIVAL.algorithm).heads[RIVAL.rounds], RIVAL.adjusted)
        answers = self._validate(stack[1:, None], "validate-rival")
        losses = {name: self.choices[name] for name in ("ridge", "discriminant")}
        losses[RIVAL.name] = choose(answers, self.statistics.counts)
        best = min(losses, key=lambda name: losses[name].loss)
        outcome = self.outcome(best)
        if best == RIVAL.name:  # its temperature comes from cross-validation too
            head = outcome.heads[""]
            factor = losses[RIVAL.name].temperature
            outcome = replace(outcome, heads={"": replace(head, weight=head.weight * factor, bias=head.bias * factor)})
        facts = {**outcome.facts, "chosen": best, "losses": {name: choice.loss for name, choice in losses.items()}}
        bill = dict.fromkeys(("moments", "statistics", "validate", "fit-fedavg", "validate-rival"), Share())
        return Outcome({"": replace(outcome.heads[""], facts=facts)}, bill, outcome.server_cpu, facts)

    def _local(self) -> Outcome:
        expect = {"head": ArraySpec((len(self.problem.classes), self.problem.width + 1))}
        replies = self.hospitals.ask(Request("local", expect=expect))
        heads = {reply.site: self._head(reply.arrays["head"], "local", {"site": reply.site}) for reply in replies}
        return Outcome(heads, {"local": Share()})

    def _pooled_logistic(self) -> Outcome:
        """Class-balanced logistic regression on all cases, by L-BFGS on summed gradients: exact, but many rounds."""
        from scipy.optimize import minimize

        moments, classes, width = self.moments, len(self.problem.classes), self.problem.width
        fixed = {"mean": moments.mean, "scale": moments.scale, "weight": class_weights(moments.counts)}
        expect = {"loss": ArraySpec((1,)), "gradient": ArraySpec((classes, width + 1))}

        def objective(flat: Float) -> tuple[float, Float]:
            head = flat.reshape(classes, width + 1)
            request = Request("gradient", arrays={"head": head, **fixed}, expect=expect)
            sums = total(reply.arrays for reply in self.hospitals.ask(request))
            return penalised(float(sums["loss"][0]), sums["gradient"], head, float(moments.counts.sum()), 1e-2)

        start = np.zeros(classes * (width + 1))
        found = minimize(objective, start, jac=True, method="L-BFGS-B", options={"maxiter": 60})
        affine = to_raw(found.x.reshape(classes, width + 1), moments.mean, moments.scale, moments.counts > 0)
        facts = {"evaluations": int(found.nfev)}
        bill = {"moments": Share(), "gradient": Share()}
        return Outcome({"": self._head(affine, "pooled-logistic", facts)}, bill, 0.0, facts)

    def _validate(self, heads: Float, phase: str) -> Update:
        strengths, classes = heads.shape[1:3]
        expect = {
            "losses": ArraySpec((strengths, len(TEMPERATURES), classes)),
            "hits": ArraySpec((strengths, classes)),
        }
        config = {"folds": self.settings.folds}
        request = Request("validate", {"heads": heads.astype(np.float32)}, config, expect, phase)
        return Update(total(reply.arrays for reply in self.hospitals.ask(request)))

    def _spread(self, family: str, statistics: Statistics, columns: NDArray[np.int64]) -> Float:
        """Heads of a family on some columns, [S, C, d + 1], zero elsewhere."""
        narrow = FAMILIES[family].heads(statistics.select(columns))
        wide = np.zeros((*narrow.shape[:2], self.problem.width + 1))
        wide[:, :, columns], wide[:, :, -1] = narrow[:, :, :-1], narrow[:, :, -1]
        return wide

    def _runs(self) -> dict[str, NDArray[np.int64]]:
        """Every run of neighbouring taps and its feature columns."""
        groups = self.problem.groups
        return {
            "+".join(name for name, _, _ in groups[first:last]): np.arange(groups[first][1], groups[last - 1][2])
            for first in range(len(groups))
            for last in range(first + 1, len(groups) + 1)
        }

    def _finished(self, heads: Float, adjusted: bool) -> Float:
        """Gradient heads on raw features, without their class prior if `adjusted` (Menon et al., ICLR 2021)."""
        moments = self.moments
        raw = to_raw(heads, moments.mean, moments.scale, moments.counts > 0)
        if adjusted:
            raw[..., -1] -= log_prior(moments.counts)
        return raw

    def _head(self, affine: Float, kind: str, facts: Mapping[str, Any]) -> Head:
        weight, bias = affine[:, :-1].copy(), affine[:, -1].copy()
        return Head(weight, bias, kind, self.problem.classes, self.problem.fingerprint, facts)

    @property
    def _candidates(self) -> int:
        """Heads per fold in the "validate" phase."""
        runs = len(self._runs()) if "discriminant-taps" in self.names else 0
        sizes = {name: len(family.strengths) for name, family in FAMILIES.items()}
        return sum(sizes.values()) + runs * sizes["discriminant"]

    @contextmanager
    def _clock(self, key: str) -> Iterator[list[float]]:
        """Measures this thread's CPU seconds."""
        spent, start = [0.0], time.thread_time()
        yield spent
        spent[0] = time.thread_time() - start
        self._cpu[key] = self._cpu.get(key, 0.0) + spent[0]


def _facts(choice: Choice) -> dict[str, float]:
    return {"temperature": choice.temperature, "cv_loss": choice.loss, "cv_balanced_accuracy": choice.balanced_accuracy}
