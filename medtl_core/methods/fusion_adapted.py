"""A fused classifier for one new hospital: each modality's head moves by the cases that have it, the weights stay."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from medtl_core.errors import DataError
from medtl_core.heads.statistics import Float
from medtl_core.methods.adaptation import Support, adapt_head, check_support, restricted
from medtl_core.methods.models.fused import Fused, present
from medtl_core.values import Head


def adapt_fused(model: Fused, support: Support) -> Fused:
    """Returns the federation's fused heads with the hospital's classes; see `adaptation.adapt_head`.

    A modality that none, or too few, of the hospital's cases have keeps its head. How much each counts was settled by
    the federation's many cases and stays.

    Raises:
        DataError: see `check_support`; or the hospital and the heads have no class in common.
    """
    known = known_classes(model)
    check_support(support, known)
    if not {*known} & {*support.classes}:
        raise DataError(
            f"the fused heads know {', '.join(known)}, the hospital {', '.join(support.classes)}: no class in common. "
            "Correct the labels, or adapt a saved `metric`, which takes classes the federation never saw"
        )
    there, width = present(support.values, model.bounds), model.heads.shape[2]
    heads, moved = np.zeros((len(model.members), len(support.classes), width)), dict[str, float | None]()
    for place, (name, (start, stop, _)) in enumerate(zip(model.members, model.bounds.tolist(), strict=True)):
        own = _head(model, place)
        adapted = restricted(own, support.classes)
        mine = _columns(support.take(there[:, place]), start, stop)
        if model.weights[place] > 0 and _can(own, mine):
            adapted = adapt_head(own, mine)
            moved[name] = adapted.facts["pull"]
        heads[place, :, start:stop], heads[place, :, -1] = adapted.weight, adapted.bias
    facts = {**model.facts, "pulls": moved, "cases": len(support.label)}
    return replace(model, heads=heads, classes=support.classes, facts=facts)


def known_classes(model: Fused) -> tuple[str, ...]:
    """Returns the classes that some hospital has shown to one of the heads."""
    seen = np.any([_head(model, place).seen for place in range(len(model.members))], axis=0)
    return tuple(name for name, there in zip(model.classes, seen, strict=True) if there)


def _head(model: Fused, place: int) -> Head:
    """One modality's head on its own columns."""
    start, stop, _ = model.bounds[place].tolist()
    affine: Float = model.heads[place]
    return Head(affine[:, start:stop], affine[:, -1], model.members[place], model.classes, model.fingerprint, {})


def _columns(support: Support, start: int, stop: int) -> Support:
    values: NDArray[np.float32] = support.values[:, start:stop]
    return replace(support, values=values)


def _can(head: Head, support: Support) -> bool:
    """Whether a head can learn from cases: there are some, of all classes that are new to it, and it knows one."""
    known: Sequence[str] = [name for name, seen in zip(head.classes, head.seen, strict=True) if seen]
    lacking = [name for name, count in zip(support.classes, support.counts, strict=True) if not count]
    return bool(len(support.label)) and {*lacking} <= {*known} and bool({*known} & {*support.classes})
