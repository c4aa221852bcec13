"""Fine-tuning of the shared backbone across hospitals: whole tensors or adapters, from nothing or from a solved head.

`finetune-last2-5` trains the two blocks that feed the deepest agreed tap, and a head from zero, for five rounds.
`lpft-last2-5` starts from the discriminant that one round of sums gives (LP-FT, Kumar et al., ICLR 2022). `lora-` and
`film-` do the same with adapters. `gradual-8` starts with the head and opens one more block after every few rounds
(ULMFiT, Howard and Ruder, ACL 2018).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, final

import numpy as np

from medtl_core.heads.linear import to_raw
from medtl_core.methods.method import Method
from medtl_core.methods.model import Classifier
from medtl_core.methods.outcome import Outcome, Share
from medtl_core.methods.rounds import Exchange, NamedCourse, run_rounds
from medtl_core.methods.study import Study
from medtl_core.transfer.adapters import find_adapter
from medtl_core.transfer.body import Scope, open_body
from medtl_core.transfer.tuned import Tuned
from medtl_core.transfer.tuning import Recipe
from medtl_core.values import Array

_DEEP = "last(?:[1-9][0-9]?)?|all"
_ROUNDS = "-(?P<rounds>[1-9][0-9]{0,2})"


@dataclass(frozen=True)
class Lesson:
    """Some rounds of one thing.

    Attributes:
        adapter: one of `adapters.ADAPTERS`.
        scope: see `body.Scope`.
        phase: label under which the cost is booked.
        first, last: numbers of the rounds.
        keep: rounds whose arrays are wanted; the last one always is.
    """

    adapter: str
    scope: str
    phase: str
    first: int
    last: int
    keep: frozenset[int] = frozenset()


def train(study: Study, lesson: Lesson, start: Mapping[str, Array]) -> NamedCourse:
    """Returns what hospitals trained together.

    Args:
        study: who trains, and the recipe's settings.
        lesson: what and for how long.
        start: "head" on standardised features, and arrays trained before; others start at the identity.

    Raises:
        ConfigError: the scope or the adapter does not fit the backbone.
        RunError: a round missed its quorum.
    """
    arrays = dict(start)
    if lesson.scope != "head":
        body = open_body(study.settings, study.problem.views, lesson.scope)
        arrays = {**find_adapter(lesson.adapter, body).start(), **start}
    chosen, moments = study.settings, study.moments
    recipe = Recipe(
        lesson.adapter, lesson.scope, epochs=chosen.tune_epochs, batch_size=chosen.batch_size, rate=chosen.tune_rate,
        weight_decay=chosen.weight_decay,
    )  # fmt: skip
    fixed = {"mean": moments.mean.astype(np.float32), "scale": moments.scale.astype(np.float32)}
    exchange = Exchange(
        "tune", lesson.phase, lesson.last - lesson.first + 1, recipe.config(), {**fixed, "counts": moments.counts},
        lesson.keep, first=lesson.first,
    )  # fmt: skip
    return run_rounds(study.hospitals, exchange, arrays)


def cold_head(study: Study) -> Array:
    """Returns a head of zeros, [C, d + 1]."""
    return np.zeros((len(study.problem.classes), study.problem.width + 1))


def warm_head(study: Study) -> Array:
    """Returns the discriminant with its temperature, on standardised features, [C, d + 1]."""
    affine, moments = study.solved("discriminant", "discriminant").affine, study.moments
    bias = affine[:, -1] + affine[:, :-1] @ moments.mean
    return np.concatenate([affine[:, :-1] * moments.scale, bias[:, None]], axis=1)


def finished(study: Study, arrays: Mapping[str, Array], facts: Mapping[str, Any]) -> Classifier:
    """Returns the classifier of trained arrays: a head on the agreed features where nothing else was trained."""
    moments, problem = study.moments, study.problem
    trained = dict(arrays)
    head = to_raw(trained.pop("head").astype(np.float64), moments.mean, moments.scale, moments.counts > 0)
    if facts["scope"] == "head":
        return study.head(head, "tuned-head", facts)
    return Tuned(problem.classes, problem.fingerprint, head, trained, facts["adapter"], facts["scope"], facts)


def losses(course: NamedCourse) -> list[float]:
    """Returns the mean training loss over hospitals in each round, in nats."""
    return [
        float(np.mean([told["loss-last"] for told in sites.values()])) for _, sites in sorted(course.metrics.items())
    ]


@dataclass(frozen=True)
class Tuning(Method):
    """What the variants share: rounds of `tuning.tune`, each hospital's change counting by its cases.

    Attributes:
        scope: what is trained; see `body.Scope`.
        rounds: of training.
    """

    #: One of `adapters.ADAPTERS`.
    adapter: ClassVar[str]
    #: Whether the head starts as the solved discriminant, its cross-validated temperature folded in; else at zero.
    warm: ClassVar[bool]

    scope: str
    rounds: int

    def outcome(self, study: Study) -> Outcome:
        """See Method."""
        phase = f"tune-{self.name.rpartition('-')[0]}"
        alike = [one for one in study.methods if type(one) is type(self) and one.scope == self.scope]
        keep = frozenset(one.rounds for one in alike) | {self.rounds}
        lesson = Lesson(self.adapter, self.scope, phase, 1, max(keep), keep)
        course = study.once(f"{phase}/{max(keep)}", lambda: train(study, lesson, {"head": self._start(study)}))
        part = self.rounds / max(keep)
        bill = {"moments": Share(), phase: Share(part, part)}
        spent = 0.0
        if self.warm:
            solved = study.solved("discriminant", "discriminant")
            bill, spent = {**bill, **solved.bill}, solved.server_cpu
        facts = {"adapter": self.adapter, "scope": self.scope, "rounds": self.rounds, "losses": losses(course)}
        return Outcome({"": finished(study, course.arrays[self.rounds], facts)}, bill, spent, facts)

    def _start(self, study: Study) -> Array:
        return warm_head(study) if self.warm else cold_head(study)


@final
@dataclass(frozen=True)
class FineTune(Tuning):
    """Fine-tuning from a head of zeros, the plain way."""

    syntax: ClassVar[str] = f"finetune-(?P<scope>{Scope.SYNTAX}){_ROUNDS}"
    example: ClassVar[str] = "finetune-last-5"
    summary: ClassVar[str] = "the last blocks of the backbone (or all, or the head) and a head from zero"
    adapter: ClassVar[str] = "finetune"
    warm: ClassVar[bool] = False


@final
@dataclass(frozen=True)
class WarmTune(Tuning):
    """LP-FT: fine-tuning from the solved head, so that early steps do not spoil the pretrained blocks."""

    syntax: ClassVar[str] = f"lpft-(?P<scope>{Scope.SYNTAX}){_ROUNDS}"
    example: ClassVar[str] = "lpft-last-5"
    summary: ClassVar[str] = "the same from the discriminant and its temperature (LP-FT)"
    adapter: ClassVar[str] = "finetune"
    warm: ClassVar[bool] = True


@final
@dataclass(frozen=True)
class LoraTune(Tuning):
    """Low-rank adapters whose average is exact (FFA-LoRA), from the solved head."""

    syntax: ClassVar[str] = f"lora-(?P<scope>{_DEEP}){_ROUNDS}"
    example: ClassVar[str] = "lora-last-5"
    summary: ClassVar[str] = "low-rank adapters in those blocks, one factor frozen (FFA-LoRA), from the discriminant"
    adapter: ClassVar[str] = "lora"
    warm: ClassVar[bool] = True


@final
@dataclass(frozen=True)
class FilmTune(Tuning):
    """A scale and a shift for each channel, from the solved head."""

    syntax: ClassVar[str] = f"film-(?P<scope>{_DEEP}){_ROUNDS}"
    example: ClassVar[str] = "film-last-5"
    summary: ClassVar[str] = "a scale and a shift of every channel in those blocks (FiLM, SSF), from the discriminant"
    adapter: ClassVar[str] = "film"
    warm: ClassVar[bool] = True


@final
@dataclass(frozen=True)
class Gradual(Method):
    """Gradual unfreezing: the head first, then one more block at a time, each stage an equal share of the rounds.

    Attributes:
        rounds: of training in all.
    """

    syntax: ClassVar[str] = f"gradual{_ROUNDS}"
    example: ClassVar[str] = "gradual-4"
    summary: ClassVar[str] = "the head from zero, then the last block, the last two, the last three, in turn"

    rounds: int

    #: In the order they are opened; with fewer rounds, the first ones only.
    STAGES: ClassVar[tuple[str, ...]] = ("head", "last", "last2", "last3")

    def outcome(self, study: Study) -> Outcome:
        """See Method."""
        arrays: Mapping[str, Array] = {"head": cold_head(study)}
        shares = np.array_split(np.arange(self.rounds), len(self.STAGES))
        heard: list[float] = []
        scope, phase = "head", f"tune-{self.name}"
        for stage, rounds in zip(self.STAGES, shares, strict=True):
            if len(rounds):
                scope = stage
                lesson = Lesson("finetune", scope, phase, int(rounds[0]) + 1, int(rounds[-1]) + 1)
                course = train(study, lesson, arrays)
                arrays, heard = course.last, heard + losses(course)
        facts = {"adapter": "finetune", "scope": scope, "rounds": self.rounds, "losses": heard}
        bill = {"moments": Share(), phase: Share()}
        return Outcome({"": finished(study, arrays, facts)}, bill, 0.0, facts)


METHODS: tuple[type[Method], ...] = (FineTune, WarmTune, LoraTune, FilmTune, Gradual)
