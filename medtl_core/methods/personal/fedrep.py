"""FedRep: as FedPer, but each round trains the head first, then the body (Collins et al., ICML 2021)."""

from dataclasses import dataclass
from typing import ClassVar

from medtl_core.federation.rounds import ROUNDS
from medtl_core.methods.models.network import BODY, HEAD
from medtl_core.methods.personal.partial import PartPersonal, kept_head_tasks


@dataclass(frozen=True)
class FedRep(PartPersonal):
    """Body averaged, head kept; in each round first the head, then the body."""

    word: ClassVar[str] = "fedrep"
    syntax: ClassVar[str] = f"fedrep{ROUNDS}"
    example: ClassVar[str] = "fedrep-3"
    summary: ClassVar[str] = "personal: as fedper, but each round trains the head first and then the body"


METHODS = (FedRep,)
TASKS = kept_head_tasks("fedrep", (HEAD, BODY), refit=True)
