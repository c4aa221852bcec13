"""FedPer: the hidden layer is averaged, the head stays at the hospital (Arivazhagan et al., 2019, arXiv:1912.00818)."""

from dataclasses import dataclass
from typing import ClassVar

from medtl_core.federation.rounds import ROUNDS
from medtl_core.methods.models.network import NAMES
from medtl_core.methods.personal.partial import PartPersonal, kept_head_tasks


@dataclass(frozen=True)
class FedPer(PartPersonal):
    """Body averaged, head kept; both trained together."""

    word: ClassVar[str] = "fedper"
    syntax: ClassVar[str] = f"fedper{ROUNDS}"
    example: ClassVar[str] = "fedper-3"
    summary: ClassVar[str] = "personal: the small network's body is averaged, its head stays at the hospital"


METHODS = (FedPer,)
TASKS = kept_head_tasks("fedper", (NAMES,))
