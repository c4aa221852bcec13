"""FedPer: the hidden layer is averaged, the head stays at the hospital (Arivazhagan et al., 2019, arXiv:1912.00818)."""

from medtl_core.federation.rounds import ROUNDS
from medtl_core.methods.models.network import NAMES
from medtl_core.methods.personal.partial import PartPersonal, kept_head_tasks


class FedPer(PartPersonal):
    """Personal: the small network's body is averaged, its head stays at the hospital."""

    syntax = f"fedper{ROUNDS}"
    example = "fedper-3"


METHODS = (FedPer,)
TASKS = kept_head_tasks("fedper", (NAMES,))
