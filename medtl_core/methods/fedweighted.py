"""FedAvg with a loss that weighs classes inversely to their cases."""

from medtl_core.federation.rounds import ROUNDS
from medtl_core.methods.balanced import Balanced


class FedWeighted(Balanced):
    """FedAvg whose local loss weighs classes inversely to their cases at all hospitals."""

    syntax = f"fedweighted{ROUNDS}"
    example = "fedweighted-20"
    loss = "class-weighted"


METHODS = (FedWeighted,)
