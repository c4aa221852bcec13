"""FedRep: as FedPer, but each round trains the head first, then the body (Collins et al., ICML 2021)."""

from medtl_core.federation.rounds import ROUNDS
from medtl_core.methods.models.network import BODY, HEAD
from medtl_core.methods.personal.partial import PartPersonal, kept_head_tasks


class FedRep(PartPersonal):
    """Personal: as fedper, but each round trains the head first and then the body."""

    syntax = f"fedrep{ROUNDS}"
    example = "fedrep-3"


METHODS = (FedRep,)
TASKS = kept_head_tasks("fedrep", (HEAD, BODY), refit=True)
