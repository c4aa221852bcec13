"""LP-FT: fine-tuning from the solved head, so that early steps do not spoil the pretrained blocks.

Kumar et al., "Fine-Tuning can Distort Pretrained Features and Underperform Out-of-Distribution", ICLR 2022. The head is
the discriminant that one round of sums gives.
"""

from dataclasses import dataclass
from typing import ClassVar, final

from medtl_core.federation.method import Method
from medtl_core.methods.finetune.split_backbone import SCOPES
from medtl_core.methods.finetune.tuning import ROUNDS, Tuning


@final
@dataclass(frozen=True)
class WarmTune(Tuning):
    """Tensors of the backbone, from their pretrained values, under a head that fits them; see Tuning."""

    syntax: ClassVar[str] = f"lpft-(?P<scope>{SCOPES}){ROUNDS}"
    example: ClassVar[str] = "lpft-last-5"
    summary: ClassVar[str] = "the same from the discriminant and its temperature (LP-FT)"
    adapter: ClassVar[str] = "finetune"
    warm: ClassVar[bool] = True
    reads: ClassVar[tuple[str, ...]] = (*Tuning.reads, "folds")


METHODS: tuple[type[Method], ...] = (WarmTune,)
