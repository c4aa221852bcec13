"""FedAvg with the logit-adjusted loss (Menon et al., ICLR 2021)."""

from medtl_core.federation.rounds import ROUNDS
from medtl_core.methods.balanced import Balanced


class FedLogit(Balanced):
    """FedAvg whose local loss absorbs the class prior of all hospitals together."""

    syntax = f"fedlogit{ROUNDS}"
    example = "fedlogit-20"
    loss = "logit-adjusted"


METHODS = (FedLogit,)
