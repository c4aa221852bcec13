"""Public images give private mechanisms their scale and their directions, so that neither is learnt from patients.

A hospital's rows are u = unit(V' (x - m) / s) with mean m, deviation s and principal directions V of public images.
Whatever m, s and V are, a row has length at most one: the guarantee does not rest on their being well chosen.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medtl_core.config import Settings
from medtl_core.errors import ConfigError
from medtl_core.features.extract import extract, feature_spec
from medtl_core.federation.study import Study
from medtl_core.federation.tasks import Arrays, SiteData
from medtl_core.heads.statistics import TINY
from medtl_core.methods.models.fused import Modality, modalities
from medtl_core.privacy.patients import Patients, PublicMap, by_patient
from medtl_core.rng import stream
from medtl_core.store import cache_folder
from medtl_core.values import Examples, Task

#: Patches cut from the photographs, and their smallest and largest side.
_PATCHES, _SMALLEST, _LARGEST = 400, 64, 400


def own_patients(site: SiteData, arrays: Arrays) -> Patients:
    """Returns a hospital's patients as rows of length at most one, under the map in a message."""
    return by_patient(PublicMap.received(arrays).rows(site.values), site.label, site.patients)


def public_map(study: Study, size: int) -> PublicMap:
    """Returns the map of a study with `size` directions (all of them if there are fewer), read once unless it is known.

    Tables and encoders' features are standardised by public constants already: their map is the identity. That of
    notes is of the public notes that `public-images` names, else a rotation that is drawn once and for all. Of several
    backbones the directions take turns.

    Raises:
        ConfigError: `public-images` is not known, or holds too few images.
    """
    public = study.problem.public or study.once("public", lambda: _read(study))
    return public.first(size)


def _read(study: Study) -> PublicMap:
    parts = modalities(study.problem) if len(study.settings.kinds) > 1 else ()
    if not parts:
        return map_of_kind(study.settings, study.problem.width, study.problem.views)
    return side_by_side([part_map(study, part) for part in parts])


def part_map(study: Study, part: Modality) -> PublicMap:
    """Returns the map of one modality's own columns; errors as in `public_map`."""
    return map_of_kind(settings_of(study.settings, part), part.stop - part.start, study.problem.views)


def settings_of(chosen: Settings, part: Modality) -> Settings:
    """Returns the settings under which one modality alone is read."""
    if "+" not in chosen.backbone:
        return chosen
    own = chosen.replace(backbone="table" if part.table else part.name)
    return own if "image" in own.kinds else own.replace(public_images=Settings.public_images)  # those are no notes


def map_of_kind(chosen: Settings, width: int, views: tuple[str, ...]) -> PublicMap:
    """Returns the map of features of one kind; errors as in `public_map`."""
    if not has_public(chosen):
        basis = np.eye(width)
        if chosen.kinds == {"text"}:  # a few columns of hashed words are a few words; any direction reads all of them
            basis = np.linalg.qr(stream(0, "directions").standard_normal((width, width)))[0]
        return PublicMap(np.zeros(width), np.ones(width), basis)
    values = _features(chosen, views)
    if len(values) < 2:
        raise ConfigError(f"public-images={chosen.public_images!r} holds {len(values)} case(s); a spread needs two")
    return map_of(values)


def has_public(settings: Settings) -> bool:
    """Returns whether directions come from public cases: from images, or from the notes of a folder."""
    return "image" in settings.kinds or (settings.kinds == {"text"} and settings.public_images not in BUILT_IN)


def side_by_side(maps: Sequence[PublicMap]) -> PublicMap:
    """Returns maps of columns that stand side by side as one, their directions taking turns, each about as long."""
    width, stops = sum(len(one.mean) for one in maps), np.cumsum([len(one.mean) for one in maps])
    columns = [np.zeros((width, one.basis.shape[1])) for one in maps]
    for one, stop, wide in zip(maps, stops, columns, strict=True):
        wide[stop - len(one.mean) : stop] = one.basis / np.sqrt(one.basis.shape[1])
    turn = np.argsort(np.concatenate([np.arange(one.basis.shape[1]) for one in maps]), kind="stable")
    basis = np.concatenate(columns, axis=1)[:, turn]
    return PublicMap(np.concatenate([one.mean for one in maps]), np.concatenate([one.scale for one in maps]), basis)


def map_of(values: NDArray[np.floating]) -> PublicMap:
    """Returns mean, deviation and principal directions, the first first, of public features [n, d]."""
    wide = values.astype(np.float64)
    mean, scale = wide.mean(axis=0), wide.std(axis=0) + TINY
    _, _, directions = np.linalg.svd((wide - mean) / scale, full_matrices=False)
    return PublicMap(mean, scale, directions.T)


def _features(chosen: Settings, views: tuple[str, ...]) -> NDArray[np.float32]:
    from medtl_core.data.source import open_source

    if chosen.public_images in BUILT_IN:
        examples = BUILT_IN[chosen.public_images](cache_folder(chosen.cache))
    elif Path(chosen.public_images).exists():
        own = Settings(data="", data_path=chosen.public_images, backbone=chosen.backbone)
        examples = open_source(own).examples
    else:
        raise ConfigError(f"public-images={chosen.public_images!r} is neither photos, phantom nor a folder")
    return extract(examples, feature_spec(chosen, views), chosen).values


def photographs(folder: Path | None = None, patches: int = _PATCHES) -> Examples:
    """Returns square patches of the two photographs that ship with scikit-learn (CC BY), the same every time."""
    from sklearn.datasets import load_sample_images

    from medtl_core.data.views import square

    pictures, rng, cut = load_sample_images().images, stream(0, "public", "photos"), []
    for _ in range(patches):
        picture = pictures[int(rng.integers(len(pictures)))]
        side = int(rng.integers(_SMALLEST, _LARGEST))
        top, left = (int(rng.integers(0, length - side + 1)) for length in picture.shape[:2])
        cut.append(square(picture[top : top + side, left : left + side], 224))
    names = np.array([f"public-{number}" for number in range(patches)])
    columns = {"label": np.zeros(patches, np.int64), "patient": names, "site": names, "image": np.stack(cut)}
    return Examples({**columns, "split": np.full(patches, "train")}, Task("public", ("public",)))


def _phantom(folder: Path | None) -> Examples:
    from medtl_core.data.synthetic.phantom import phantom

    return phantom(size=224, patients=200, folder=folder)


#: Values of `public-images` that need no folder of images: of no medical task, or synthetic. Drawings are kept.
BUILT_IN: Mapping[str, Callable[[Path | None], Examples]] = {"photos": photographs, "phantom": _phantom}
