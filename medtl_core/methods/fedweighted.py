"""FedAvg with a loss that weighs classes inversely to their cases."""

from dataclasses import dataclass
from typing import ClassVar

from medtl_core.federation.rounds import ROUNDS
from medtl_core.methods.balanced import Balanced


@dataclass(frozen=True)
class FedWeighted(Balanced):
    """FedAvg with weights inverse to the class counts of all hospitals together."""

    syntax: ClassVar[str] = f"fedweighted{ROUNDS}"
    example: ClassVar[str] = "fedweighted-20"
    summary: ClassVar[str] = "fedavg whose local loss weighs classes inversely to their cases at all hospitals"
    loss: ClassVar[str] = "class-weighted"


METHODS = (FedWeighted,)
