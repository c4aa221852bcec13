"""FedAvg with the logit-adjusted loss (Menon et al., ICLR 2021)."""

from dataclasses import dataclass
from typing import ClassVar

from medtl_core.federation.rounds import ROUNDS
from medtl_core.methods.balanced import Balanced


@dataclass(frozen=True)
class FedLogit(Balanced):
    """FedAvg whose loss adds the log prior of all hospitals together to the logits."""

    syntax: ClassVar[str] = f"fedlogit{ROUNDS}"
    example: ClassVar[str] = "fedlogit-20"
    summary: ClassVar[str] = "fedavg whose local loss absorbs the class prior of all hospitals together"
    loss: ClassVar[str] = "logit-adjusted"


METHODS = (FedLogit,)
