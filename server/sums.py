"""Evaluation sums of the hospitals: asked for, one exchange for many affine heads, one for each model."""

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from medtl_core.evaluation.federated import expected_shapes
from medtl_core.federation.hospitals import ArraySpec, Request, Value
from medtl_core.federation.model import Model
from medtl_core.federation.outcome import Share
from medtl_core.federation.study import Study
from medtl_core.values import Head, Update

#: What each hospital summed over its own held-out cases, by site.
SiteSums = Mapping[str, Update]


def heads_judged(study: Study, heads: list[Head]) -> list[SiteSums]:
    """Returns the sums of many affine heads, asked for in one exchange; a few kB a head."""
    stack = np.stack([np.concatenate([head.weight, head.bias[:, None]], axis=1) for head in heads])
    return _asked(study, Request("evaluate", {"heads": stack.astype(np.float32)}), len(heads))


def evaluation_share(study: Study, heads: int, of: int) -> Share:
    """Returns the share of a method whose heads were judged in one exchange with others."""
    classes = len(study.problem.classes)
    up = 8 * sum(math.prod(shape) for shape in expected_shapes(classes).values())
    return Share.among(heads, of, up=up, down=4 * classes * (study.problem.width + 1))


def model_judged(study: Study, model: Model, phase: str) -> SiteSums:
    """Returns the sums of a model, which travels to the hospitals."""
    packed = model.pack()
    config: dict[str, Value] = {"model-kind": model.kind, "model-fingerprint": packed.fingerprint}
    config |= {f"model-{key}": value for key, value in packed.config.items()}
    return _asked(study, Request("evaluate_model", packed.arrays, config, phase=phase))[0]


def personal_judged(study: Study, request: Request, phase: str) -> SiteSums:
    """Returns the sums of what each hospital keeps of a personal method."""
    return _asked(study, replace(request, phase=phase))[0]


def _asked(study: Study, request: Request, heads: int = 1) -> list[SiteSums]:
    """Every hospital's sums on its own held-out cases, head by head."""
    shapes = expected_shapes(len(study.problem.classes)).items()
    expect = {name: ArraySpec((heads, *shape)) for name, shape in shapes}
    replies = list(study.hospitals.ask(replace(request, expect=expect)))
    return [
        {reply.site: Update({name: array[row] for name, array in reply.arrays.items()}) for reply in replies}
        for row in range(heads)
    ]
