"""Low-rank adapters whose average is exact (FFA-LoRA, Sun et al., ICLR 2024), from the solved head."""

from dataclasses import dataclass
from typing import ClassVar, final

from medtl_core.federation.method import Method
from medtl_core.methods.finetune.tuning import ROUNDS, Tuning


@final
@dataclass(frozen=True)
class LoraTune(Tuning):
    """One factor of a low-rank change of each dense layer; see `adapters` and Tuning."""

    syntax: ClassVar[str] = f"lora-(?P<scope>last(?:[1-9][0-9]?)?|all){ROUNDS}"
    example: ClassVar[str] = "lora-last-5"
    summary: ClassVar[str] = "low-rank adapters in those blocks, one factor frozen (FFA-LoRA), from the discriminant"
    adapter: ClassVar[str] = "lora"
    warm: ClassVar[bool] = True
    reads: ClassVar[tuple[str, ...]] = (*Tuning.reads, "folds")


METHODS: tuple[type[Method], ...] = (LoraTune,)
