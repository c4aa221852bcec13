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
from medtl_core.values import Array, Head, Update

#: What each hospital summed over its own held-out cases, by site.
SiteSums = Mapping[str, Update]


def heads_judged(study: Study, heads: list[Head], phase: str = "") -> list[SiteSums]:
    """Returns the sums of many affine heads, asked for in one exchange; a few kB a head."""
    request = Request("evaluate", {"heads": _stacked(heads).astype(np.float32)}, phase=phase)
    sites = _asked(study, request, len(heads))
    return [_row(sites, row) for row in range(len(heads))]


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
    return _row(_asked(study, Request("evaluate_model", packed.arrays, config, phase=phase)), 0)


def personal_judged(study: Study, request: Request, phase: str) -> SiteSums:
    """Returns the sums of what each hospital keeps of a personal method."""
    return _row(_asked(study, replace(request, phase=phase)), 0)


def _stacked(heads: list[Head]) -> Array:
    """Affine heads as one array [H, C, d + 1]."""
    return np.stack([np.concatenate([head.weight, head.bias[:, None]], axis=1) for head in heads])


def _row(sites: Mapping[str, Mapping[str, Array]], row: int) -> SiteSums:
    return {site: Update({name: array[row] for name, array in arrays.items()}) for site, arrays in sites.items()}


def _asked(study: Study, request: Request, heads: int = 1) -> dict[str, Mapping[str, Array]]:
    """Every hospital's sums [heads, ...] on its own held-out cases."""
    shapes = expected_shapes(len(study.problem.classes)).items()
    expect = {name: ArraySpec((heads, *shape)) for name, shape in shapes}
    replies = study.hospitals.ask(replace(request, expect=expect))
    return {reply.site: reply.arrays for reply in replies}
