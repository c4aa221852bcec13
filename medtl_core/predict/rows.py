"""Features of a few new cases without the blanks that fill a pass, and of many as a hospital makes them."""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from medtl_core.config import Settings
from medtl_core.data.faults import Faults
from medtl_core.errors import DataError
from medtl_core.features.dataset import Material
from medtl_core.features.extract import FeatureSpec, feature_spec, images_of, read_images
from medtl_core.features.forward import Forward, forward
from medtl_core.runtime import Processor, processor
from medtl_core.values import Array


def rows_of(material: Material, faults: Faults, workers: int) -> tuple[Material, Array]:
    """Returns the cases whose features can be made, and these, float32 [n, d]; any other case is at fault.

    A hospital's features are the same bytes whatever else is read, for which every pass has the same length. A person
    who asks about one picture should not wait for blanks: where the cases fill at most half of a pass, each has a pass
    of its own, and its features agree with a hospital's to the rounding of float32.

    Raises:
        ConfigError, WeightsError: see `Material.readable`.
    """
    runs = _short(material)
    if not runs:
        usable, features = material.readable(faults, private=False, workers=workers)
        return usable, features.values
    rows, width = list[Array](), sum(record.width for record, _ in runs)
    if "path" in material.examples.columns:
        faults.place = lambda row: str(material.examples["path"][row])
    for number, image in enumerate(images_of(material.examples)):
        try:
            rows.append(np.concatenate([read_images([image], run, record)[0] for record, run in runs]))
        except DataError as error:
            cause = str(error).removeprefix(f"{faults.place(number)}: ")
            faults.case(number, cause, "export it anew, or leave it out")
    if len(rows) < len(material):
        material = material.take(faults.usable(len(material)))
    return material, np.stack(rows) if rows else np.zeros((0, width), np.float32)


def _short(material: Material) -> Sequence[tuple[FeatureSpec, Forward]]:
    """What reads cases one by one; nothing where they are many, stand in a table, or may be known already."""
    if material.settings.kinds != {"image"} or material.settings.cache != "off":
        return ()
    most, runs = _runs(material.settings, material.views, processor(material.settings.device))
    return runs if 2 * len(material) <= most else ()


@lru_cache(maxsize=8)
def _runs(
    settings: Settings, views: tuple[str, ...], place: Processor
) -> tuple[int, Sequence[tuple[FeatureSpec, Forward]]]:
    """Pictures of a pass, and what reads a single one under each record.

    It stays, as the networks do: looking for their files again takes a thirtieth of an answer.
    """
    parts = [
        (record, (of.backbone, of.weights, record, place))
        for record, of in feature_spec(settings, views).parts(settings)
    ]
    most = min(forward(*named).batch for _, named in parts)
    return most, tuple((record, _alone(*named)) for record, named in parts)


@lru_cache(maxsize=8)
def _alone(name: str, weights: str, record: FeatureSpec, place: Processor) -> Forward:
    """What `features.forward` keeps, in passes of a single picture."""
    run = Forward(name, weights, record, place)
    run.batch = 1
    return run
