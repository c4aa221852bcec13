"""FedAvg (McMahan et al., AISTATS 2017), on request with the class prior removed, and cross-validated for `auto`."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from medtl_core.federation.method import Need, Rounds, Share, Study
from medtl_core.federation.rounds import ROUNDS
from medtl_core.heads.statistics import Float
from medtl_core.methods.gradient import LinearTrained
from medtl_core.values import Array, Head


@dataclass(frozen=True)
class FedAvg(LinearTrained):
    """The linear head trained at hospitals and averaged (-adjusted: without the class prior).

    Attributes:
        adjusted: whether the class prior is removed afterwards (Menon et al., ICLR 2021).
        folds: whether the heads without each fold are wanted too, which train along in the same messages.
    """

    syntax = f"fedavg{ROUNDS}(?P<adjusted>-adjusted)?"
    example = "fedavg-20"

    adjusted: bool
    folds: bool = False

    def needs(self, study: Study) -> tuple[Need, ...]:
        """See Method."""
        return (Rounds(self.trained_as, self.rounds, self.folds),)

    def start(self, study: Study) -> Mapping[str, Array]:
        """See Trained: one head, and one for each left-out fold where some method wants them cross-validated."""
        heads = super().start(study)["heads"]
        return {"heads": np.repeat(heads, 1 + study.settings.folds * self._folds_train(study), axis=0)}

    def heads(self, study: Study) -> Float:
        """Returns the trained heads on raw features, [M, C, d + 1]: of all cases, then without each fold."""
        return study.finished(self.course(study).exact[self.rounds]["heads"], self.adjusted)

    def model(self, study: Study, arrays: Mapping[str, Float]) -> Head:
        """See Trained."""
        return study.head(self.heads(study)[0], "fedavg", {"rounds": self.rounds, "adjusted": self.adjusted})

    def bill(self, study: Study) -> dict[str, Share]:
        """See Trained: of a message that holds heads of folds for others, the bytes of the method's own alone."""
        each = 4 * len(study.problem.classes) * (study.problem.width + 1)
        alone, together = (1 + study.settings.folds * wanted for wanted in (self.folds, self._folds_train(study)))
        own = super().bill(study)
        share = Share.among(alone, together, up=each, down=each, rounds=own[self.phase].rounds)
        return {**own, self.phase: share}

    def _folds_train(self, study: Study) -> bool:
        return self.folds or study.folds_needed(self.trained_as)


#: The gradient head that `auto` weighs against the closed-form heads, cross-validated.
RIVAL = FedAvg("fedavg-20-adjusted", 20, adjusted=True, folds=True)

METHODS = (FedAvg,)
