"""Fine-tuning of the shared backbone across hospitals: rounds of `client.tune` over named arrays.

A name says what is trained and for how many rounds: `finetune-last2-5` trains the two blocks that feed the deepest
agreed tap, and a head, for five.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from medtl_core.federation.hospitals import Value
from medtl_core.federation.method import Candidates, Need
from medtl_core.federation.model import Classifier
from medtl_core.federation.outcome import Outcome
from medtl_core.federation.rounds import Trained, as_float32
from medtl_core.federation.study import Study
from medtl_core.heads.linear import to_raw
from medtl_core.heads.statistics import Float
from medtl_core.methods.finetune.adapters import find_adapter
from medtl_core.methods.finetune.client import TuningRecipe
from medtl_core.methods.finetune.model import Tuned
from medtl_core.methods.finetune.split_backbone import open_backbone
from medtl_core.values import Array

#: The head that warm variants start from.
_START = Candidates("discriminant")
#: The part of a method's name that says the rounds.
ROUNDS = "-(?P<rounds>[1-9][0-9]{0,2})"


def warm_head(study: Study) -> Array:
    """Returns the discriminant with its temperature, on standardised features, [C, d + 1]."""
    affine, moments = study.solved(_START).affine, study.moments
    bias = affine[:, -1] + affine[:, :-1] @ moments.mean
    return np.concatenate([affine[:, :-1] * moments.scale, bias[:, None]], axis=1)


@dataclass(frozen=True)
class Tuning(Trained):
    """What the variants share: rounds of `client.tune`, each hospital's change counting by its cases.

    Attributes:
        scope: what is trained; one of `split_backbone.SCOPES`.
        rounds: of training.
    """

    task: ClassVar[str] = "tune"
    reads: ClassVar[tuple[str, ...]] = ("tune-epochs", "tune-rate", "batch-size", "weight-decay")
    #: One of `adapters.ADAPTERS`.
    adapter: ClassVar[str]
    #: Whether the head starts as the solved discriminant, its cross-validated temperature folded in; else at zero.
    warm: ClassVar[bool]

    scope: str

    @property
    def trained_as(self) -> str:
        """See Trained."""
        return self.name.rpartition("-")[0]

    @property
    def phase(self) -> str:
        """See Trained."""
        return f"tune-{self.trained_as}"

    def needs(self, study: Study) -> tuple[Need, ...]:
        """See Method."""
        return (*super().needs(study), *([_START] if self.warm else []))

    def start(self, study: Study) -> Mapping[str, Array]:
        """Returns the head, and the adapter's arrays at the identity."""
        cold = np.zeros((len(study.problem.classes), study.problem.width + 1))
        head = {"head": warm_head(study) if self.warm else cold}
        if self.scope == "head":
            return head
        backbone = open_backbone(study.settings, study.problem.views, self.scope)
        return {**head, **find_adapter(self.adapter, backbone).start}

    def sent(self, study: Study) -> Mapping[str, Array]:
        """Returns mean and scale of the features, and all hospitals' cases of each class."""
        return {**super().sent(study), "counts": study.moments.counts}

    def config(self, study: Study) -> Mapping[str, Value]:
        """Returns the recipe of the settings."""
        chosen = study.settings
        recipe = TuningRecipe(
            self.adapter, self.scope, epochs=chosen.tune_epochs, batch_size=chosen.batch_size, rate=chosen.tune_rate,
            weight_decay=chosen.weight_decay,
        )  # fmt: skip
        return recipe.config()

    def model(self, study: Study, arrays: Mapping[str, Float]) -> Classifier:
        """Returns a head on the agreed features where nothing else was trained, else the backbone with its head."""
        moments, problem, trained = study.moments, study.problem, as_float32(arrays)
        metrics = self.course(study).metrics
        losses = [metrics[number].get("loss-last", np.nan) for number in sorted(metrics)]
        facts = {"adapter": self.adapter, "scope": self.scope, "rounds": self.rounds, "losses": losses}
        head = to_raw(trained.pop("head").astype(np.float64), moments.mean, moments.scale, moments.counts > 0)
        if self.scope == "head":
            return study.head(head, "tuned-head", facts)
        return Tuned(problem.classes, problem.fingerprint, head, trained, self.adapter, self.scope, facts)

    def outcome(self, study: Study) -> Outcome:
        """See Method."""
        outcome = super().outcome(study)
        if not self.warm:
            return outcome
        bill = {**outcome.bill, **study.closed_bill([_START])}
        return replace(outcome, bill=bill, server_cpu=study.solved(_START).server_cpu)
