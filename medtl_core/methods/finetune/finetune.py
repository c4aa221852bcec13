"""Fine-tuning, the plain way: the last blocks' own tensors are trained, and a head that starts at zero."""

from dataclasses import dataclass
from typing import ClassVar, final

from medtl_core.federation.method import Method
from medtl_core.methods.finetune.split_backbone import SCOPES
from medtl_core.methods.finetune.tuning import ROUNDS, Tuning


@final
@dataclass(frozen=True)
class FineTune(Tuning):
    """Tensors of the backbone, from their pretrained values; see Tuning."""

    syntax: ClassVar[str] = f"finetune-(?P<scope>{SCOPES}){ROUNDS}"
    example: ClassVar[str] = "finetune-last-5"
    summary: ClassVar[str] = "the last blocks of the backbone (or all, or the head) and a head from zero"
    adapter: ClassVar[str] = "finetune"
    warm: ClassVar[bool] = False


METHODS: tuple[type[Method], ...] = (FineTune,)
