"""FedAvg (McMahan et al., AISTATS 2017), on request with the class prior removed."""

from collections.abc import Mapping
from dataclasses import dataclass

from medtl_core.evaluation.calibration import log_prior
from medtl_core.federation.method import Study
from medtl_core.federation.rounds import ROUNDS
from medtl_core.heads.statistics import Float
from medtl_core.methods.gradient import LinearTrained
from medtl_core.values import Head


@dataclass(frozen=True)
class FedAvg(LinearTrained):
    """The linear head trained at hospitals and averaged (-adjusted: without the class prior).

    Attributes:
        adjusted: whether the class prior is removed afterwards (Menon et al., ICLR 2021).
    """

    syntax = f"fedavg{ROUNDS}(?P<adjusted>-adjusted)?"
    example = "fedavg-20"

    adjusted: bool

    def model(self, study: Study, arrays: Mapping[str, Float]) -> Head:
        """See Trained."""
        raw = study.finished(arrays["heads"])
        if self.adjusted:
            raw[..., -1] -= log_prior(study.moments.counts)
        return study.head(raw[0], "fedavg", {"rounds": self.rounds, "adjusted": self.adjusted})


METHODS = (FedAvg,)
