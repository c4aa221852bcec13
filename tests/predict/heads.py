"""Heads of random weights on real features, and phantom films whose lesion's place is known."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from medtl_core.config import Settings, settings
from medtl_core.data.synthetic.anatomy import canvas, draw, traits
from medtl_core.data.synthetic.scanner import SCANNERS, expose
from medtl_core.features.spec import feature_facts, feature_spec
from medtl_core.predict import Predictor, load
from medtl_core.predict.saved import save_head
from medtl_core.values import Array, Head

CLASSES = ("normal", "consolidation", "other")


def made(
    folder: Path,
    *,
    features: str = "rich",
    image_size: str = "64",
    views: tuple[str, ...] = ("identity",),
    conformal: Mapping[str, Any] | None = None,
    scale: float = 1.0,
    weight: float | None = None,
) -> Predictor:
    """A head of random weights on real features."""
    chosen = settings({"features": features, "image-size": image_size, "cache": "off"})
    spec = feature_spec(chosen, views)
    drawn = np.random.default_rng(3).normal(scale=scale, size=(3, spec.width))
    if weight is not None:
        drawn = np.outer([weight, 0, 0], np.ones(spec.width))
    facts: dict[str, Any] = {"features": {**feature_facts(chosen, views), "columns": [], "modality": "chest X-ray"}}
    facts["conformal"] = {**(conformal or {})}
    return load(save_head(Head(drawn, np.zeros(3), "made", CLASSES, spec.fingerprint, facts), folder, "made"))


def made_of_table(folder: Path, columns: tuple[str, ...], seed: int = 3) -> Predictor:
    """A head of random weights on a table's columns."""
    return made_for(folder, settings({"backbone": "table"}), columns, seed)


def made_for(folder: Path, chosen: Settings, columns: tuple[str, ...], seed: int = 3) -> Predictor:
    """A head of random weights on what settings read."""
    views = ("identity",) if "image" in chosen.kinds else ()
    spec = feature_spec(chosen, views, columns)
    weight = np.random.default_rng(seed).normal(size=(3, spec.width))
    facts = {"features": {**feature_facts(chosen, views), "columns": [*columns]}}
    return load(save_head(Head(weight, np.zeros(3), "made", CLASSES, spec.fingerprint, facts), folder, "made"))


class Film(NamedTuple):
    path: Path
    lesion: Array


def film(folder: Path, number: int = 0, size: int = 128) -> Film:
    """A phantom with a consolidation, and where it is: the drawing less the one without it."""
    page, body = canvas(size), traits(np.random.default_rng(number), 1)
    ill, well = (draw(page, body, np.array([label]), np.random.default_rng(100 + number)) for label in (1, 0))
    pixels = expose(page, ill, [*SCANNERS.values()][number % len(SCANNERS)], np.random.default_rng(number))[0]
    path = folder / f"film {number}.png"
    Image.fromarray(pixels).save(path)
    return Film(path, (ill - well)[0] > 0.05)
